//! Facts → what people see: the one place where the engine's snapshots and a
//! machine's particulars become the API's views. What they say in numbers is
//! listed in `dynmem_api::counters`, from which everybody reads it.

use std::path::PathBuf;

use dynmem_agent_protocol::Assigned;
use dynmem_api::{
    AutostartView, DamagedDefinition, DriverView, DryRunView, DryRunVm, HostCounters, HostPagingView, HostView,
    Integration, MemoryLimits, MemoryStatus, ReserveBy, SettingsView, SmartPagingView, TroubleView, VmCounters,
    VmState, VmView,
};
use dynmem_core::{
    DriverSnapshot, Foreseen, Foresight, HostSnapshot, MemorySettings, ReportSource, TroubleSnapshot, VmSnapshot,
};
use dynmem_units::{Bytes, Percent};

use crate::{
    agent_link::AgentStatus,
    driver::{LimitView, MachineInfo},
};

/// What is known about a machine besides the engine's part.
#[derive(Debug, Default)]
pub(crate) struct MachineParts<'a> {
    pub(crate) info: Option<&'a MachineInfo>,
    pub(crate) cpu: Option<Percent>,
    /// How much of its memory is written, while it is being saved.
    pub(crate) saving: Option<Bytes>,
    pub(crate) limits: Option<&'a LimitView>,
    /// What is wrong with the connection to the machine.
    pub(crate) trouble: Option<&'a str>,
    pub(crate) agent: AgentStatus,
    /// Where its smart paging file is, or would be.
    pub(crate) paging_path: Option<PathBuf>,
}

/// What is known about the host besides the engine's part.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostParts {
    pub(crate) accelerator: String,
    pub(crate) qemu_version: String,
    pub(crate) memory_limits: MemoryLimits,
    pub(crate) damaged: Vec<DamagedDefinition>,
    pub(crate) smart_paging: HostPagingView,
    /// Whether a person set the reserve; else it is the formula's.
    pub(crate) reserve_is_set: bool,
    /// The part of the reserve that machines hold which nobody here can take
    /// back.
    pub(crate) out_of_reach: Bytes,
}

/// One VM at `now_unix_ms`.
pub(crate) fn vm_view(vm: &VmSnapshot, vcpus: u32, parts: &MachineParts<'_>, now_unix_ms: u64) -> VmView {
    let on = vm_state(vm).is_on();
    let info = parts.info.filter(|_| on);
    let limits = parts.limits.filter(|_| on);
    let report = vm.report.as_ref();
    let spoken = vm.pressure.is_some();
    let uptime_seconds = info.map(|info| now_unix_ms.saturating_sub(info.started_unix_ms) / 1000);
    VmView {
        name: vm.name.clone(),
        state: vm_state(vm),
        state_reason: state_reason(vm, parts),
        assigned_bytes: vm.assigned,
        demand_bytes: vm.demand,
        target_bytes: vm.target,
        pressure_percent: vm.pressure,
        memory_status: vm.status.map(memory_status),
        memory_available_percent: spoken.then(|| available_percent(vm)).flatten(),
        buffer_percent_held: spoken.then(|| buffer_held(vm)),
        guest_visible_bytes: report.map(|report| report.visible),
        guest_available_bytes: report.map(|report| report.available),
        guest_stall_percent: report.map(|report| Percent::new(report.stall / 100)),
        guest_swap_bytes: report.filter(|report| report.source == ReportSource::Agent).map(|report| report.swap_total),
        ballooned_bytes: vm.ballooned,
        plugged_bytes: vm.plugged,
        overhead_bytes: vm.overhead,
        charged_bytes: vm.charge,
        overhead_measured: limits.is_some_and(|limits| limits.measured),
        resident_bytes: limits.and_then(|limits| limits.resident),
        memory_limit_bytes: limits.and_then(|limits| limits.limit),
        uptime_seconds,
        cpu_percent: parts.cpu.filter(|_| on),
        vcpus,
        accelerator: info.map(|info| info.accelerator.clone()),
        integration: integration(vm),
        driver: driver(vm),
        troubles: vm.troubles.iter().map(trouble).collect(),
        saved_bytes: vm.saved,
        settings: SettingsView::from(&vm.settings),
        autostart: AutostartView::default(), // whoever knows the definition fills it in
        smart_paging: smart_paging(vm, parts),
        console_path: info.map(|info| info.console.clone()),
        monitor_path: info.map(|info| info.monitor.clone()),
        pid: info.and_then(|info| info.pid),
        meter: None, // whoever owns the meters fills it in
        counters: vm_counters(vm, &parts.agent),
        advice: Vec::new(), // the same
        warnings: if on { warnings(vm, parts) } else { Vec::new() },
    }
}

/// The host.
pub(crate) fn host_view(host: &HostSnapshot, vms: &[VmView], parts: &HostParts) -> HostView {
    let count = |keep: fn(&VmView) -> bool| vms.iter().filter(|vm| keep(vm)).count() as u64;
    HostView {
        memory_bytes: host.memory,
        reserve_bytes: host.reserve,
        reserve_by: if parts.reserve_is_set { ReserveBy::Setting } else { ReserveBy::Formula },
        out_of_reach_bytes: parts.out_of_reach,
        lendable_bytes: host.lendable,
        floor_bytes: host.floor,
        machines_hold_bytes: host.machines_hold,
        protection: protection(host),
        charged_bytes: host.charged,
        available_bytes: host.available,
        available_for_balancing_bytes: host.available_for_balancing,
        assigned_bytes: host.assigned,
        overhead_bytes: host.overhead,
        vms_running: count(|vm| vm.state.is_on()),
        vms_total: count(|_| true),
        average_pressure_percent: host.average_pressure,
        system_pressure_percent: host.system_pressure,
        host_available_bytes: host.host_available.unwrap_or_default(),
        stall_percent: Percent::new(host.stall / 100),
        counters: HostCounters {
            added_bytes: host.counters.added,
            removed_bytes: host.counters.removed,
            add_operations: host.counters.add_operations,
            remove_operations: host.counters.remove_operations,
        },
        accelerator: parts.accelerator.clone(),
        qemu_version: parts.qemu_version.clone(),
        under_pressure: host.under_pressure,
        memory_limits: parts.memory_limits.clone(),
        smart_paging: parts.smart_paging.clone(),
        damaged_definitions: parts.damaged.clone(),
        advice: Vec::new(), // whoever publishes fills it in
    }
}

/// Why less may be lent now than memory less reserve, if it may.
fn protection(host: &HostSnapshot) -> Option<String> {
    let usual = host.memory.saturating_sub(host.reserve);
    let less = usual.saturating_sub(host.lendable);
    let available = host.host_available.filter(|_| !less.is_zero())?;
    let (stall, doubled) = (host.stall / 100, if host.stalls { ", twice as much as usual" } else { "" });
    let stalls = if host.stalls { format!(", and tasks wait for memory {stall}% of the time") } else { String::new() };
    Some(format!(
        "{} MiB less than usual can be lent: others use the host's memory. It has {} MiB available{stalls}; {} MiB of them are kept{doubled}",
        less.mib(),
        available.mib(),
        host.floor.mib(),
    ))
}

/// What would come of a change.
pub(crate) fn dry_run_view(foresight: Foresight) -> DryRunView {
    let Foresight { refusal, before, after, waits, from_others, changes } = foresight;
    if let Some(refusal) = refusal {
        return nothing_moves(&before, Some(refusal.to_string()));
    }
    let vms = changes.into_iter().map(|Foreseen { name, now, then, status, paged, .. }| DryRunVm {
        name,
        now_bytes: now,
        then_bytes: then,
        memory_status: status.map(memory_status),
        paged_bytes: paged,
    });
    DryRunView {
        accepted: true,
        refusal: None,
        available_bytes: before.available,
        available_after_bytes: after.available,
        waits,
        reclaimed_bytes: from_others,
        vms: vms.collect(),
    }
}

/// A change that moves no memory, or would be refused.
pub(crate) fn nothing_moves(host: &HostSnapshot, refusal: Option<String>) -> DryRunView {
    DryRunView {
        accepted: refusal.is_none(),
        refusal,
        available_bytes: host.available,
        available_after_bytes: host.available,
        waits: false,
        reclaimed_bytes: Bytes::ZERO,
        vms: Vec::new(),
    }
}

/// What the guest's own agent may tell people inside the guest.
pub(crate) fn assigned_message(vm: &VmSnapshot) -> Assigned {
    let MemorySettings { dynamic, startup, minimum, maximum, .. } = vm.settings;
    // A static VM holds its startup memory, always.
    let (minimum, maximum) = if dynamic { (minimum, maximum) } else { (startup, startup) };
    Assigned {
        assigned_bytes: vm.assigned,
        demand_bytes: vm.demand,
        target_bytes: vm.target,
        minimum_bytes: minimum,
        maximum_bytes: maximum,
    }
}

fn smart_paging(vm: &VmSnapshot, parts: &MachineParts<'_>) -> SmartPagingView {
    SmartPagingView {
        path: parts.paging_path.clone(),
        in_use: vm.paging.is_some(),
        file_bytes: vm.paging.map(|paging| paging.file),
        used_bytes: vm.paging.map(|paging| paging.used).unwrap_or_default(),
        since_seconds: vm.paging.map(|paging| paging.for_ms / 1000),
        overdue: vm.paging.is_some_and(|paging| paging.overdue),
    }
}

fn vm_state(vm: &VmSnapshot) -> VmState {
    match vm.state {
        dynmem_core::VmState::Off => VmState::Off,
        dynmem_core::VmState::Starting => VmState::Starting,
        dynmem_core::VmState::Booting => VmState::Booting,
        dynmem_core::VmState::Running => VmState::Running,
        dynmem_core::VmState::Paused => VmState::Paused,
        dynmem_core::VmState::Stopping => VmState::Stopping,
        dynmem_core::VmState::Saving => VmState::Saving,
        dynmem_core::VmState::Saved => VmState::Saved,
        dynmem_core::VmState::Failed => VmState::Failed,
    }
}

fn state_reason(vm: &VmSnapshot, parts: &MachineParts<'_>) -> Option<String> {
    let written = parts.saving.filter(|_| vm.state == dynmem_core::VmState::Saving);
    let progress = written.map_or_else(String::new, |written| format!(", {} MiB so far", written.mib()));
    vm.reason.as_ref().map(|reason| format!("{reason}{progress}"))
}

fn memory_status(status: dynmem_core::MemoryStatus) -> MemoryStatus {
    match status {
        dynmem_core::MemoryStatus::Ok => MemoryStatus::Ok,
        dynmem_core::MemoryStatus::Warning => MemoryStatus::Warning,
        dynmem_core::MemoryStatus::Low => MemoryStatus::Low,
    }
}

/// (assigned − demand) ÷ assigned in per cent; negative when short.
fn available_percent(vm: &VmSnapshot) -> Option<i64> {
    let (assigned, demand) = (i128::from(vm.assigned.get()), i128::from(vm.demand.get()));
    i64::try_from(((assigned - demand) * 100).checked_div(assigned)?).ok()
}

fn buffer_held(vm: &VmSnapshot) -> Percent {
    let ideal = vm.settings.buffer.of(vm.demand);
    Percent::ratio(vm.assigned.saturating_sub(vm.demand), ideal)
}

fn integration(vm: &VmSnapshot) -> Integration {
    match (&vm.driver, &vm.report) {
        (DriverSnapshot::Silent { .. } | DriverSnapshot::None, _) | (_, None) => Integration::None,
        (_, Some(report)) if report.source == ReportSource::Agent => Integration::Agent,
        (_, Some(_)) => Integration::BalloonStatistics,
    }
}

/// Its memory is as good as static while one of these lasts.
fn driver(vm: &VmSnapshot) -> DriverView {
    let moves_never = !vm.settings.dynamic && vm.promised == vm.settings.startup;
    vm.troubles.iter().find(|trouble| trouble.kind.freezes()).filter(|_| !moves_never).map_or(
        DriverView::Ok,
        |frozen| {
            let TroubleView { detail: reason, since_seconds, .. } = trouble(frozen);
            DriverView::Frozen { reason, since_seconds }
        },
    )
}

fn trouble(trouble: &TroubleSnapshot) -> TroubleView {
    TroubleView {
        kind: trouble.kind.name().to_owned(),
        since_seconds: trouble.for_ms / 1000,
        detail: format!("It {}", trouble.detail),
    }
}

fn vm_counters(vm: &VmSnapshot, agent: &AgentStatus) -> VmCounters {
    let pressure = vm.pressure.map(|_| vm.pressure_history);
    VmCounters {
        added_bytes: vm.counters.added,
        removed_bytes: vm.counters.removed,
        add_operations: vm.counters.add_operations,
        remove_operations: vm.counters.remove_operations,
        pressure_minimum_percent: pressure.map(|pressure| pressure.minimum),
        pressure_average_percent: pressure.map(|pressure| pressure.average()),
        pressure_maximum_percent: pressure.map(|pressure| pressure.maximum),
        guest_high_water_bytes: vm.high_water,
        reports_taken: agent.taken,
        reports_refused: agent.refused,
    }
}

fn warnings(vm: &VmSnapshot, parts: &MachineParts<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(parts.trouble.map(str::to_owned));
    let missing = parts.limits.and_then(|limits| limits.missing.as_ref());
    warnings.extend(missing.map(|why| format!("It runs without a memory limit: {why}")));
    if let (1.., Some(complaint)) = (parts.agent.refused, &parts.agent.complaint) {
        warnings.push(format!("{} messages of its agent were refused; the last: {complaint}", parts.agent.refused));
    }
    if integration(vm) == Integration::BalloonStatistics && vm.settings.dynamic {
        warnings.push("No agent reports: demand is taken from balloon statistics, which are slower and know less; install dynmem-agent in the guest".to_owned());
    }
    warnings.extend(size_warning(vm));
    let reach = vm.report.as_ref().zip(parts.info).map(|(_, info)| info.reach);
    if vm.settings.dynamic
        && let Some(reach) = reach.filter(|reach| *reach < vm.settings.maximum)
    {
        warnings.push(format!(
            "This machine can hold at most {reach} of its maximum, {}, until it is started again from off",
            vm.settings.maximum
        ));
    }
    warnings
}

/// What a machine holds beside its settings.
fn size_warning(vm: &VmSnapshot) -> Option<String> {
    let VmSnapshot { assigned, settings, .. } = vm;
    let (startup, maximum) = (settings.startup, settings.maximum);
    match vm.state {
        dynmem_core::VmState::Running if !settings.dynamic && *assigned > startup => Some(format!(
            "It holds {assigned} of memory, and its startup is {startup}: its guest is asked for the rest"
        )),
        dynmem_core::VmState::Running if !settings.dynamic && *assigned < startup => Some(format!(
            "It holds {assigned} of its startup, {startup}: it gets the rest when its guest takes it and there is memory"
        )),
        dynmem_core::VmState::Running if settings.dynamic && *assigned > maximum => {
            Some(format!("It holds {assigned}, more than its maximum, {maximum}: its guest is asked for the rest"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use dynmem_core::{Counters, GuestReport, PressureHistory, TroubleKind, VmId};

    use super::*;

    const fn mib(mib: u64) -> Bytes {
        Bytes::from_mib(mib)
    }

    fn off() -> VmSnapshot {
        VmSnapshot {
            paging: None,
            saved: None,
            id: VmId(0),
            name: "web01".to_owned(),
            settings: MemorySettings { dynamic: true, ..MemorySettings::default() },
            state: dynmem_core::VmState::Off,
            reason: None,
            assigned: Bytes::ZERO,
            promised: Bytes::ZERO,
            demand: Bytes::ZERO,
            target: Bytes::ZERO,
            pressure: None,
            pressure_history: PressureHistory::default(),
            status: None,
            overhead: Bytes::ZERO,
            charge: Bytes::ZERO,
            ballooned: Bytes::ZERO,
            plugged: Bytes::ZERO,
            report: None,
            high_water: Bytes::ZERO,
            driver: DriverSnapshot::None,
            troubles: Vec::new(),
            counters: Counters::default(),
        }
    }

    fn running() -> VmSnapshot {
        let report = GuestReport::new(ReportSource::Agent, mib(490), mib(90));
        VmSnapshot {
            state: dynmem_core::VmState::Running,
            assigned: mib(400),
            demand: mib(500),
            target: mib(600),
            pressure: Some(Percent::new(125)),
            report: Some(report),
            driver: DriverSnapshot::Working,
            ..off()
        }
    }

    #[test]
    fn a_vm_that_is_off_shows_zeros_and_nothing_of_a_machine() {
        let view = vm_view(&off(), 2, &MachineParts::default(), 0);
        assert_eq!((view.state, view.assigned_bytes, view.demand_bytes), (VmState::Off, Bytes::ZERO, Bytes::ZERO));
        assert_eq!(
            (view.pressure_percent, view.memory_available_percent, view.buffer_percent_held),
            (None, None, None)
        );
        assert_eq!((view.driver, view.integration), (DriverView::Ok, Integration::None));
        assert!(view.warnings.is_empty());
    }

    #[test]
    fn a_short_guest_has_a_negative_rest() {
        let view = vm_view(&running(), 2, &MachineParts::default(), 0);
        assert_eq!(view.memory_available_percent, Some(-25));
        assert_eq!(view.buffer_percent_held, Some(Percent::new(0)));
        assert_eq!(view.integration, Integration::Agent);
    }

    #[test]
    fn a_frozen_guest_names_its_reason_and_a_silent_one_has_no_integration() {
        let trouble = |kind, for_ms, detail: &str| TroubleSnapshot { kind, for_ms, detail: detail.to_owned() };
        let floods = trouble(TroubleKind::AgentFloods, 1_999, "has an agent that sends more than is read");
        let silent = trouble(TroubleKind::Silent, 16_500, "has stopped reporting");
        let driver = DriverSnapshot::Silent { for_ms: 16_500 };
        let vm = VmSnapshot { driver, troubles: vec![floods, silent], ..running() };
        let view = vm_view(&vm, 1, &MachineParts::default(), 0);
        assert_eq!(view.integration, Integration::None);
        let DriverView::Frozen { reason, since_seconds: 16 } = view.driver else { panic!("{:?}", view.driver) };
        assert_eq!(reason, "It has stopped reporting");
        let [floods, _] = &view.troubles[..] else { panic!("{:?}", view.troubles) };
        assert_eq!((floods.kind.as_str(), floods.since_seconds), ("agent-floods", 1));
        assert_eq!(floods.detail, "It has an agent that sends more than is read");

        let only = VmSnapshot { troubles: vec![vm.troubles[0].clone()], ..vm };
        assert_eq!(vm_view(&only, 1, &MachineParts::default(), 0).driver, DriverView::Ok, "its memory moves");
    }

    #[test]
    fn a_machine_without_its_limit_is_a_warning_and_one_that_is_off_has_neither() {
        let limits = LimitView {
            limit: Some(mib(700)),
            measured: true,
            resident: Some(mib(120)),
            taken: Some(mib(300)),
            at_limit: Some(mib(700)),
            missing: None,
        };
        let parts = MachineParts { limits: Some(&limits), ..MachineParts::default() };
        let view = vm_view(&running(), 1, &parts, 0);
        assert_eq!((view.memory_limit_bytes, view.overhead_measured), (Some(mib(700)), true));
        assert_eq!(view.resident_bytes, Some(mib(120)));
        assert!(view.warnings.is_empty(), "what its guest does is a trouble: {:?}", view.warnings);
        assert_eq!(vm_view(&off(), 1, &parts, 0).memory_limit_bytes, None);
        let limits = LimitView { missing: Some("its memory group was removed".to_owned()), ..LimitView::default() };
        let view = vm_view(&running(), 1, &MachineParts { limits: Some(&limits), ..MachineParts::default() }, 0);
        assert_eq!(view.warnings, ["It runs without a memory limit: its memory group was removed"]);
    }

    #[test]
    fn the_host_says_what_it_keeps_and_why() {
        let mut engine = dynmem_core::Engine::new(dynmem_core::HostConfig { memory: mib(12_800), reserve: mib(800) });
        let mut view = |available, stall| {
            let facts = dynmem_core::HostFacts { available: mib(available), stall, machines: Some(mib(4_000)) };
            engine.handle(dynmem_core::Instant(0), dynmem_core::Input::Host(facts));
            host_view(&engine.host_snapshot(), &[], &HostParts { reserve_is_set: true, ..HostParts::default() })
        };
        let calm = view(12_000, 0);
        assert_eq!((calm.lendable_bytes, calm.floor_bytes, calm.protection), (mib(12_000), mib(256), None));
        assert_eq!((calm.reserve_by, calm.machines_hold_bytes), (ReserveBy::Setting, Some(mib(4_000))));
        let short = view(1_000, 0);
        let sentence = "7256 MiB less than usual can be lent: others use the host's memory. It has 1000 MiB \
                        available; 256 MiB of them are kept";
        assert_eq!((short.protection.as_deref(), short.lendable_bytes.mib()), (Some(sentence), 4_744));
        let stalled = view(1_000, 2_500).protection.expect("less can be lent");
        let end =
            "available, and tasks wait for memory 25% of the time; 512 MiB of them are kept, twice as much as usual";
        assert!(stalled.ends_with(end), "{stalled}");
    }

    #[test]
    fn refused_messages_are_a_warning() {
        let agent = AgentStatus { refused: 3, complaint: Some("Field x is odd".to_owned()), ..AgentStatus::default() };
        let view = vm_view(&running(), 1, &MachineParts { agent, ..MachineParts::default() }, 0);
        assert_eq!(view.warnings, ["3 messages of its agent were refused; the last: Field x is odd"]);
    }
}
