//! What the scenarios promise, and what the policy promises in them.

use dynmem_sim::{
    clairvoyant::Clairvoyant,
    plan::HostPlan,
    policy::{Dynmem, Policy},
    scenario::{self, Scenario},
    score::{self, Score},
    world::World,
};

const SEED: u64 = 3;

fn live(plan: HostPlan, policy: Box<dyn Policy>) -> (Score, World) {
    let mut world = World::new(plan, policy).checked();
    let score = score::run(&mut world, |_| {});
    assert_eq!(world.broken(), None);
    (score, world)
}

fn under_dynmem(name: &str) -> Score {
    let plan = Scenario::named(name).expect("known").plan(SEED);
    let host = plan.host;
    live(plan, Box::new(Dynmem::new(host))).0
}

#[test]
fn who_knows_the_future_lacks_nothing_where_a_scenario_fits_and_something_where_not() {
    for scenario in scenario::ALL {
        let plan = scenario.plan(SEED).lasting(1_200);
        let host = plan.host;
        let (score, _) = live(plan, Box::new(Clairvoyant::new(host)));
        let name = scenario.name;
        assert_eq!(score.unmet_gib_seconds == 0.0, scenario.fits, "{name} lacks {} GiB·s", score.unmet_gib_seconds);
    }
}

#[test]
fn constant_demand_costs_no_operation_in_an_hour() {
    assert_eq!(under_dynmem("steady").operations, 0);
}

#[test]
fn a_walk_of_two_per_cent_moves_less_than_a_thousandth_in_a_minute() {
    let moved = under_dynmem("walk").moved_percent_per_minute;
    assert!(moved < 0.1, "{moved} % a minute");
}

#[test]
fn shortage_is_shared_to_the_block() {
    for name in ["shortage", "overcommit"] {
        let score = under_dynmem(name);
        assert!(score.fairness_error_blocks <= 1, "{name}: {} blocks", score.fairness_error_blocks);
        assert_eq!(score.oom_kills, 0, "{name}");
    }
}

#[test]
fn a_shortage_is_fair_three_reports_after_it_began() {
    let mut plan = Scenario::named("shortage").expect("known").plan(SEED);
    // All of it moves within the first report, so only the deciding counts.
    for vm in &mut plan.vms {
        vm.guest.mechanism = dynmem_sim::guest::Mechanism::INSTANT;
    }
    let host = plan.host;
    let mut world = World::new(plan, Box::new(Dynmem::new(host)));
    // The need is there after two minutes and the time to touch it. Guests in
    // need report every 100 ms, calm ones every five seconds.
    while world.now_ms() < 120_000 + 2_000 + 3 * 5_000 {
        world.step(100);
    }
    assert!(score::fairness_error_blocks(&world) <= 1, "{} blocks", score::fairness_error_blocks(&world));
}

#[test]
fn a_surge_is_met_within_two_seconds_and_the_mechanisms_own_time() {
    for (name, mechanism_seconds) in [("surge-free", 0.8), ("surge-idle", 7.5)] {
        let seconds = under_dynmem(name).surge_seconds;
        assert!(seconds <= 2.0 + mechanism_seconds, "{name}: {seconds} s of virtual time");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_another() {
    let run = |seed| {
        let plan = Scenario::named("mixed").expect("known").plan(seed).lasting(600);
        let host = plan.host;
        live(plan, Box::new(Dynmem::new(host))).1.digest()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn an_unknown_scenario_is_answered_with_the_known_ones() {
    let error = Scenario::named("surge").expect_err("there are two").to_string();
    assert!(error.starts_with("Unknown scenario \"surge\": it must be one of steady, walk, surge-free"), "{error}");
}
