//! Imitated machines through the real client: the same calls, the same
//! events, the same sockets as with QEMU.

use std::time::Duration;

use dynmem_agent_protocol::{Assigned, GuestMessage, HostMessage, LineDecoder, Welcome, encode};
use dynmem_core::{MemorySettings, ReportSource};
use dynmem_definition::{Accelerator, Boot, VmDefinition};
use dynmem_footprint::Footprint;
use dynmem_hypervisor::{
    AttachError, Hypervisor, Launch, Machine, MachineError, MachineEvent, MachineExit, RunState,
    fake::{AgentMood, Behaviour, DeviceMood, FakeGuest, FakeHost, QmpMood},
};
use dynmem_qmp::commands::{RebootAction, SetAction};
use dynmem_units::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

const fn mib(mib: u64) -> Bytes {
    Bytes::from_mib(mib)
}

struct Bench {
    directory: Footprint,
    host: FakeHost,
    hypervisor: Hypervisor,
}

impl Bench {
    fn new() -> Self {
        let host = FakeHost::new(mib(8192));
        let hypervisor = Hypervisor::Fake(host.clone());
        Self { directory: Footprint::new().expect("a directory"), host, hypervisor }
    }

    fn plan(&self, name: &str) -> Launch {
        let memory = MemorySettings {
            dynamic: true,
            startup: mib(512),
            minimum: mib(128),
            maximum: mib(2048),
            ..MemorySettings::default()
        };
        let definition = VmDefinition {
            name: name.to_owned(),
            vcpus: 1,
            accelerator: Accelerator::Auto,
            boot: Boot::default(),
            disks: Vec::new(),
            networks: Vec::new(),
            vnc: None,
            extra_args: Vec::new(),
            memory,
            ..VmDefinition::new(name)
        };
        Launch { definition, run_dir: self.directory.path().join(name), cgroups: Vec::new() }
    }

    async fn launch(&self, name: &str) -> (Machine, FakeGuest) {
        let machine = self.hypervisor.launch(&self.plan(name)).await.expect("a machine");
        let guest = self.host.guest(name).expect("its guest");
        guest.wait_until(|snapshot| snapshot.booted).await;
        (machine, guest)
    }
}

async fn until(machine: &mut Machine, wanted: MachineEvent) {
    while machine.next_event().await != wanted {}
}

#[tokio::test]
async fn memory_moves_to_what_was_ordered_and_is_told() {
    let bench = Bench::new();
    let (mut machine, guest) = bench.launch("web01").await;
    let ordered = machine.order(mib(256), mib(100)).await.expect("done");
    assert_eq!((ordered.balloon, ordered.plugged), (mib(256), mib(100)));
    until(&mut machine, MachineEvent::PlugChanged).await;
    guest.wait_until(|guest| (guest.balloon_actual, guest.plugged) == (mib(256), mib(100))).await;
    let facts = machine.facts().await.expect("facts");
    assert_eq!((facts.balloon_actual, facts.plugged, facts.assigned()), (mib(256), mib(100), mib(356)));
}

#[tokio::test]
async fn a_guest_keeps_what_it_uses() {
    let bench = Bench::new();
    let (mut machine, guest) = bench.launch("web01").await;
    guest.change(|guest| guest.demand = mib(368)).await; // and the kernel's own 32
    machine.order(mib(128), Bytes::ZERO).await.expect("done");
    guest.wait_until(|guest| guest.balloon_actual == mib(400)).await;
}

#[tokio::test]
async fn a_stuck_balloon_moves_again_when_it_is_freed() {
    let bench = Bench::new();
    let (mut machine, guest) = bench.launch("web01").await;
    guest.change(|guest| guest.balloon = DeviceMood::Stuck).await;
    machine.order(mib(256), mib(64)).await.expect("taken");
    guest.wait_until(|guest| guest.plugged == mib(64)).await;
    assert_eq!(guest.snapshot().balloon_actual, mib(512));
    guest.change(|guest| guest.balloon = DeviceMood::Willing).await;
    guest.wait_until(|guest| guest.balloon_actual == mib(256)).await;
}

#[tokio::test]
async fn statistics_stand_in_for_an_agent() {
    let bench = Bench::new();
    let (mut machine, _guest) = bench.launch("web01").await;
    let statistics = machine.statistics().await.expect("an answer").expect("statistics");
    assert_eq!(statistics.report.source, ReportSource::Balloon);
    assert_eq!((statistics.report.visible, statistics.report.available), (mib(480), mib(416)));
    assert!(statistics.age < Duration::from_mins(1));
}

#[tokio::test]
async fn a_guests_reboot_is_held_and_its_old_balloon_figure_is_not_believed() {
    let bench = Bench::new();
    let (mut machine, guest) = bench.launch("web01").await;
    machine.order(mib(256), mib(64)).await.expect("done");
    guest.wait_until(|guest| (guest.balloon_actual, guest.plugged) == (mib(256), mib(64))).await;
    // After the reset the balloon is where it should be: its driver says nothing.
    guest.change(|guest| (guest.balloon, guest.plug) = (DeviceMood::Stuck, DeviceMood::Stuck)).await;
    machine.order(mib(512), Bytes::ZERO).await.expect("done");
    guest.reboot().await;
    until(&mut machine, MachineEvent::ResetHeld).await;
    assert_eq!(machine.state().await.expect("a state"), RunState::ResetHeld);
    assert_eq!(machine.facts().await.expect("facts").balloon_actual, mib(256));

    machine.continue_reset().await.expect("done");
    guest.wait_until(|guest| guest.boots == 3).await; // ours, and the guest's own that was held
    let facts = machine.facts().await.expect("facts");
    assert_eq!((facts.balloon_actual, facts.plugged), (mib(512), Bytes::ZERO), "the guest can use all of it");
    assert_eq!(machine.state().await.expect("a state"), RunState::Running);

    guest.change(|guest| guest.balloon = DeviceMood::Willing).await;
    let ordered = machine.order(mib(256), Bytes::ZERO).await.expect("done").balloon;
    assert_eq!(ordered, mib(258), "the old figure itself would not be believed");
    guest.wait_until(|guest| guest.balloon_actual == ordered).await;
    assert_eq!(machine.facts().await.expect("facts").balloon_actual, ordered, "believed once it has moved");
    assert_eq!(machine.order(mib(256), Bytes::ZERO).await.expect("done").balloon, mib(256));
}

#[tokio::test]
async fn a_power_button_that_is_obeyed_ends_in_a_power_off() {
    let bench = Bench::new();
    let (mut machine, guest) = bench.launch("web01").await;
    guest.change(|guest| guest.obeys_power_button = false).await;
    machine.power_down().await.expect("pressed");
    assert_eq!(machine.state().await.expect("a state"), RunState::Running);
    guest.change(|guest| guest.obeys_power_button = true).await;
    machine.power_down().await.expect("pressed");
    assert_eq!(machine.next_event().await, MachineEvent::PoweredOff);
    machine.quit().await.expect("done");
    assert_eq!(machine.next_event().await, MachineEvent::Exited(MachineExit::Code(0)));
    assert!(!bench.directory.path().join("web01").exists());
}

#[tokio::test]
async fn a_panic_and_a_sudden_end_are_told() {
    let bench = Bench::new();
    let (mut machine, guest) = bench.launch("web01").await;
    guest.panic().await;
    assert_eq!(machine.next_event().await, MachineEvent::Panicked);
    assert_eq!(machine.state().await.expect("a state"), RunState::Panicked);
    guest.crash(MachineExit::Signal(11));
    assert_eq!(machine.next_event().await, MachineEvent::Exited(MachineExit::Signal(11)));
}

#[tokio::test]
async fn a_hung_control_socket_fails_calls_and_neither_the_kill_nor_its_neighbours() {
    let bench = Bench::new();
    let (mut hung, guest) = bench.launch("web01").await;
    let (mut other, _) = bench.launch("web02").await;
    guest.change(|guest| guest.qmp = QmpMood::Hung).await;
    let error = tokio::time::timeout(Duration::from_mins(1), hung.facts()).await.expect("bounded").expect_err("hung");
    assert!(error.to_string().contains("did not answer query-balloon"), "{error}");
    other.facts().await.expect("untouched");

    drop(hung);
    let run_dir = bench.directory.path().join("web01");
    let error = bench.hypervisor.attach(&run_dir).await.expect_err("it does not even greet");
    assert!(matches!(error, AttachError::Unresponsive { .. }), "{error}");
    guest.change(|guest| guest.qmp = QmpMood::Healthy).await;
    let mut machine = bench.hypervisor.attach(&run_dir).await.expect("no error").expect("still there");
    machine.kill();
    until(&mut machine, MachineEvent::Exited(MachineExit::Signal(9))).await;
}

#[tokio::test]
async fn a_lost_control_connection_is_made_again() {
    let bench = Bench::new();
    let (mut machine, guest) = bench.launch("web01").await;
    guest.hang_up().await;
    until(&mut machine, MachineEvent::Lagged).await;
    machine.facts().await.expect("connected again");
    guest.power_off().await;
    assert_eq!(machine.next_event().await, MachineEvent::PoweredOff);
}

/// As if a daemon had broken off in the middle of a reset.
async fn let_resets_happen(machine: &Machine) {
    let patience = Duration::from_secs(30);
    let (person, _events) = dynmem_qmp::connect(&machine.run_dir().monitor(), patience).await.expect("it listens");
    person.call(SetAction { reboot: Some(RebootAction::Reset), shutdown: None }).await.expect("done");
}

#[tokio::test]
async fn resets_are_held_again_once_a_lost_control_connection_is_back() {
    let bench = Bench::new();
    let (mut machine, guest) = bench.launch("web01").await;
    let_resets_happen(&machine).await;
    guest.hang_up().await;
    until(&mut machine, MachineEvent::Lagged).await;
    guest.reboot().await;
    assert_eq!(machine.next_event().await, MachineEvent::ResetHeld);
}

#[tokio::test]
async fn resets_are_held_again_by_the_next_try_of_a_reset_that_failed_at_its_end() {
    let bench = Bench::new();
    let (mut machine, guest) = bench.launch("web01").await;
    let_resets_happen(&machine).await;
    let error = machine.continue_reset().await.expect_err("it runs");
    assert!(matches!(error, MachineError::NotHeld(RunState::Running)), "{error}");
    guest.reboot().await;
    until(&mut machine, MachineEvent::ResetHeld).await;
}

#[tokio::test]
async fn a_record_that_can_not_be_written_keeps_no_guest_from_its_reboot() {
    let bench = Bench::new();
    let (mut machine, guest) = bench.launch("web01").await;
    std::fs::create_dir(machine.run_dir().path().join("machine.json.new")).expect("in the way");
    guest.reboot().await;
    until(&mut machine, MachineEvent::ResetHeld).await;
    machine.continue_reset().await.expect("the guest matters more");
    guest.wait_until(|guest| guest.booted && guest.boots >= 2).await;
    assert_eq!(machine.state().await.expect("a state"), RunState::Running);
}

#[tokio::test]
async fn a_reset_that_nobody_held_is_known_to_the_next_daemon() {
    let bench = Bench::new();
    let (mut machine, guest) = bench.launch("web01").await;
    machine.order(mib(256), Bytes::ZERO).await.expect("done");
    guest.wait_until(|guest| guest.balloon_actual == mib(256)).await;
    machine.facts().await.expect("facts");
    machine.order(mib(512), Bytes::ZERO).await.expect("done");
    guest.change(|guest| guest.balloon = DeviceMood::Stuck).await;
    let_resets_happen(&machine).await;
    guest.reboot().await;
    let run_dir = machine.run_dir().path().to_owned();
    loop {
        // Events are taken in until the reset was among them.
        until(&mut machine, MachineEvent::BalloonChanged).await;
        if machine.facts().await.expect("facts").balloon_actual == mib(512) {
            break;
        }
    }
    drop(machine);
    let mut machine = bench.hypervisor.attach(&run_dir).await.expect("no error").expect("still there");
    assert_eq!(machine.facts().await.expect("facts").balloon_actual, mib(512), "the guest can use all of it");
}

#[tokio::test]
async fn a_record_that_can_not_be_read_is_no_sign_that_nothing_runs() {
    let bench = Bench::new();
    let (machine, _guest) = bench.launch("web01").await;
    std::fs::write(machine.run_dir().record(), "{").expect("written");
    let error = bench.hypervisor.attach(machine.run_dir().path()).await.expect_err("unreadable");
    assert!(matches!(error, AttachError::Unclear { record: None, .. }), "{error}");
    assert!(machine.run_dir().path().exists());
}

#[tokio::test]
async fn a_machine_outlives_its_handle() {
    let bench = Bench::new();
    let (mut machine, guest) = bench.launch("web01").await;
    machine.order(mib(256), mib(64)).await.expect("done");
    drop(machine);
    guest.wait_until(|guest| (guest.balloon_actual, guest.plugged) == (mib(256), mib(64))).await;
    let run_dir = bench.directory.path().join("web01");
    let mut machine = bench.hypervisor.attach(&run_dir).await.expect("no error").expect("still there");
    let facts = machine.facts().await.expect("facts");
    assert_eq!((facts.balloon_actual, facts.plugged), (mib(256), mib(64)));
    machine.quit().await.expect("done");
    until(&mut machine, MachineEvent::Exited(MachineExit::Code(0))).await;
    assert!(bench.hypervisor.attach(&run_dir).await.expect("no error").is_none());
}

struct Port {
    stream: UnixStream,
    decoder: LineDecoder,
    chunk: Vec<u8>,
}

impl Port {
    async fn open(machine: &Machine) -> Self {
        let stream = UnixStream::connect(machine.run_dir().agent()).await.expect("QEMU listens");
        Self { stream, decoder: LineDecoder::new(), chunk: Vec::new() }
    }

    async fn next(&mut self) -> Result<GuestMessage, String> {
        loop {
            let mut rest = self.chunk.as_slice();
            let message = self.decoder.next(&mut rest);
            let left = rest.len();
            self.chunk.drain(..self.chunk.len() - left);
            if let Some(message) = message {
                return message.map_err(|error| error.to_string());
            }
            assert!(self.stream.read_buf(&mut self.chunk).await.expect("readable") > 0, "the port is open");
        }
    }
}

#[tokio::test]
async fn the_agent_greets_reports_and_listens() {
    let bench = Bench::new();
    let (machine, guest) = bench.launch("web01").await;
    let mut port = Port::open(&machine).await;
    assert!(matches!(port.next().await, Ok(GuestMessage::Hello(_))));
    let Ok(GuestMessage::Report(report)) = port.next().await else { panic!("a report follows") };
    assert_eq!((report.visible_bytes, report.available_bytes), (mib(480), mib(416)));

    let welcome = HostMessage::Welcome(Welcome { protocol: 1, heartbeat_ms: 100 });
    let assigned = HostMessage::Assigned(Assigned { assigned_bytes: mib(512), ..Assigned::default() });
    for message in [welcome, assigned] {
        port.stream.write_all(&encode(&message).expect("a line")).await.expect("written");
    }
    guest.wait_until(|guest| guest.told_assigned == Some(mib(512))).await;

    guest.change(|guest| guest.demand = mib(600)).await;
    loop {
        let Ok(GuestMessage::Report(report)) = port.next().await else { panic!("reports follow") };
        if report.available_bytes.is_zero() {
            assert!(report.stall_hundredths > 0, "a guest that is short waits");
            break;
        }
    }
}

#[tokio::test]
async fn an_agent_can_misbehave() {
    let bench = Bench::new();
    let lie = br#"{"type":"report","seq":1,"uptime_ms":1,"visible_bytes":10995116277760000,"available_bytes":0}"#;
    bench.host.set_default(Behaviour { agent: AgentMood::Line(lie.to_vec()), ..Behaviour::default() });
    let (machine, guest) = bench.launch("web01").await;
    let mut port = Port::open(&machine).await;
    assert!(port.next().await.expect_err("a lie").contains("more than any machine has"));

    guest.change(|guest| guest.agent = AgentMood::Flood).await;
    assert!(port.next().await.expect_err("a flood").contains("longer than"));
    guest.change(|guest| guest.agent = AgentMood::Healthy).await;
    while !matches!(port.next().await, Ok(GuestMessage::Report(_))) {}
}

#[tokio::test]
async fn a_hundred_machines_live_in_one_process() {
    let bench = Bench::new();
    let mut machines = Vec::new();
    for number in 0..100 {
        machines.push(bench.launch(&format!("vm{number:03}")).await);
    }
    for (machine, _) in &mut machines {
        machine.order(mib(256), mib(128)).await.expect("done");
    }
    for (machine, guest) in &mut machines {
        guest.wait_until(|guest| (guest.balloon_actual, guest.plugged) == (mib(256), mib(128))).await;
        assert_eq!(machine.facts().await.expect("facts").assigned(), mib(384));
    }
}
