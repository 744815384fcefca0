//! The rules: each looks at one VM (or the host) at one moment, and says what
//! could be better or nothing.
//!
//! What to know of the guest's programs and isn't known here (that a database
//! locks its memory, that a program sizes itself by what it sees at its start)
//! is only told where the guest's behaviour shows it.

use dynmem_api::{AdviceView, HostView, Integration, Severity, VmState, VmView};
use dynmem_core::MemorySettings;
use dynmem_units::Bytes;

use super::{Usage, steady::Candidate};

/// Before so much of a VM's life is known, nothing is said about what it never
/// needed: five days.
const KNOWN_SECONDS: u64 = 5 * 86_400;
/// A trouble that lasts this long is how the guest is.
const LASTING_SECONDS: u64 = 600;
/// What a small guest wants of a swap.
const SWAP: Bytes = Bytes::from_mib(1024);
/// A maximum beyond this many times of what was ever needed is far above it.
const FAR: u64 = 4;
/// In the last day, minutes too short for a buffer that suffices.
const SHORT_MINUTES: u64 = 12;

/// What is known about a VM.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'f> {
    pub(crate) vm: &'f VmView,
    pub(crate) host: &'f HostView,
    pub(crate) usage: &'f Usage,
    /// Whether the folder that a person chose for its smart paging file is on
    /// the disk that the system is on.
    pub(crate) paging_on_system_disk: bool,
}

type Rule = fn(&Facts<'_>) -> Option<Candidate>;

const RULES: [Rule; 9] = [
    beyond_host,
    guest_sees_less,
    minimum_is_startup,
    maximum_unused,
    could_be_dynamic,
    paging_folder,
    keeps_its_memory,
    no_swap,
    no_agent,
];

/// What the rules say of a VM.
pub(crate) fn about_vm(facts: &Facts<'_>) -> Vec<Candidate> {
    let buffer = buffer_too_small(facts).or_else(|| buffer_too_large(facts));
    RULES.iter().filter_map(|rule| rule(facts)).chain(buffer).collect()
}

/// What the rules say of the host.
pub(crate) fn about_host(host: &HostView, paging_on_system_disk: bool) -> Vec<Candidate> {
    let folder = host.smart_paging.folder.as_ref().filter(|_| paging_on_system_disk && host.smart_paging.possible);
    let advice = folder.map(|folder| {
        let sentence = format!("Smart paging files are made in {}, on the system disk", folder.display());
        let remedy =
            "Give VMs a --smart-paging-folder on another disk, so that the host keeps its pace while one pages";
        at_once("smart-paging-on-system-disk", Severity::Hint, sentence, remedy)
    });
    advice.into_iter().collect()
}

fn candidate(kind: &str, severity: Severity, sentence: String, remedy: impl Into<String>) -> Candidate {
    let advice = AdviceView { kind: kind.to_owned(), severity, sentence, remedy: remedy.into() };
    Candidate { advice, at_once: false }
}

/// It follows from settings, and holds as long as they do.
fn at_once(kind: &str, severity: Severity, sentence: String, remedy: impl Into<String>) -> Candidate {
    Candidate { at_once: true, ..candidate(kind, severity, sentence, remedy) }
}

/// A size that a person would set: whole steps of 64 MiB.
fn round_up(size: Bytes) -> Bytes {
    Bytes::from_mib(size.mib().next_multiple_of(64).max(64))
}

/// The most that it ever needed, with its buffer.
fn most_wanted(facts: &Facts<'_>) -> Option<Bytes> {
    let (usage, settings) = (facts.usage, &facts.vm.settings);
    let known = usage.week_seconds >= KNOWN_SECONDS && !usage.most_needed.is_zero();
    known.then(|| usage.most_needed.saturating_add(settings.buffer_percent.of(usage.most_needed)))
}

fn beyond_host(facts: &Facts<'_>) -> Option<Candidate> {
    let Facts { vm, host, .. } = facts;
    let (startup, most) = (vm.settings.startup_bytes, host.memory_bytes.saturating_sub(host.reserve_bytes));
    let beyond = startup > most && !host.memory_bytes.is_zero() && !vm.state.is_on();
    beyond.then(|| {
        let sentence = format!("Its startup, {startup}, is more than this host ever lends, {most}: it can't start");
        at_once("startup-beyond-host", Severity::Warning, sentence, format!("Lower its startup to {most} or less"))
    })
}

/// 32-bit guests and boot options leave memory unused that they were given.
fn guest_sees_less(facts: &Facts<'_>) -> Option<Candidate> {
    let vm = facts.vm;
    let (startup, most_seen) = (vm.settings.startup_bytes, vm.counters.guest_high_water_bytes);
    // A kernel keeps some for itself, more of a large machine.
    let kept = Bytes::from_mib(192).saturating_add(Bytes::new(startup.get() / 12));
    let up = vm.state == VmState::Running && vm.integration == Integration::Agent && !most_seen.is_zero();
    let less = up && vm.ballooned_bytes.is_zero() && most_seen.saturating_add(kept) < startup;
    less.then(|| {
        let sentence = format!("Its guest has never seen more than {most_seen} of its startup, {startup}");
        let remedy = "Lower its startup to what its guest supports, or lift the guest's limit (a 32-bit system, mem= at its boot)";
        candidate("startup-beyond-guest", Severity::Warning, sentence, remedy)
    })
}

fn minimum_is_startup(facts: &Facts<'_>) -> Option<Candidate> {
    let settings = &facts.vm.settings;
    let most = round_up(most_wanted(facts)?);
    let startup = settings.startup_bytes;
    let never = settings.dynamic && settings.minimum_bytes == startup && most.get() <= startup.get() / 4 * 3;
    never.then(|| {
        let sentence = format!(
            "Its minimum is its startup, {startup}, and it has never needed more than {most} with its buffer: the rest is kept from the others"
        );
        candidate("minimum-is-startup", Severity::Hint, sentence, format!("Lower its minimum, to {most} for instance"))
    })
}

fn maximum_unused(facts: &Facts<'_>) -> Option<Candidate> {
    let settings = &facts.vm.settings;
    let most = round_up(most_wanted(facts)?).max(settings.startup_bytes);
    let maximum = settings.maximum_bytes;
    // The default is nobody's choice.
    let far = settings.dynamic && maximum < MemorySettings::default().maximum && maximum.get() / FAR > most.get();
    far.then(|| {
        let sentence = format!("Its maximum, {maximum}, is far above the most that it ever wanted, {most}");
        let remedy = format!(
            "Lower its maximum, to {} for instance: a program that takes all it gets is stopped there",
            Bytes::new(most.get().saturating_mul(2))
        );
        candidate("maximum-unused", Severity::Hint, sentence, remedy)
    })
}

fn could_be_dynamic(facts: &Facts<'_>) -> Option<Candidate> {
    let settings = &facts.vm.settings;
    let (most, startup) = (round_up(most_wanted(facts)?), settings.startup_bytes);
    let idle = !settings.dynamic && facts.vm.integration == Integration::Agent && most.get() <= startup.get() / 2;
    idle.then(|| {
        let sentence = format!("It is static and holds {startup}, and has never needed more than {most} with a buffer");
        candidate(
            "could-be-dynamic",
            Severity::Hint,
            sentence,
            "Turn dynamic memory on, so that others can have the rest",
        )
    })
}

fn paging_folder(facts: &Facts<'_>) -> Option<Candidate> {
    let settings = &facts.vm.settings;
    let folder = settings.smart_paging_folder.as_ref().filter(|_| facts.paging_on_system_disk && settings.dynamic)?;
    let sentence = format!("Its smart paging folder, {}, is on the system disk", folder.display());
    let remedy = "Choose a folder on another disk, so that the host keeps its pace while it pages";
    Some(at_once("smart-paging-on-system-disk", Severity::Hint, sentence, remedy))
}

/// Databases and some Java programs lock their memory: a balloon gets none.
fn keeps_its_memory(facts: &Facts<'_>) -> Option<Candidate> {
    let keeps = |kind: &str| matches!(kind, "stuck" | "pinned");
    let lasts = |seconds| seconds >= LASTING_SECONDS;
    let trouble = facts.vm.troubles.iter().find(|trouble| keeps(&trouble.kind) && lasts(trouble.since_seconds))?;
    facts.vm.settings.dynamic.then(|| {
        let minutes = trouble.since_seconds / 60;
        let sentence = format!("Its guest has not given back what it was asked for {minutes} minutes: it may lock its memory");
        let remedy = "For a guest that locks its memory (databases, some Java programs) set minimum = maximum, or turn dynamic memory off";
        candidate("keeps-its-memory", Severity::Warning, sentence, remedy)
    })
}

fn no_swap(facts: &Facts<'_>) -> Option<Candidate> {
    let vm = facts.vm;
    let none = vm.guest_swap_bytes.is_some_and(Bytes::is_zero) && vm.integration == Integration::Agent;
    (none && vm.settings.dynamic && vm.state == VmState::Running).then(|| {
        let sentence =
            "Its guest has no swap: where it needs memory faster than it can be given, its kernel kills a program"
                .to_owned();
        candidate(
            "no-swap",
            Severity::Warning,
            sentence,
            format!("Give the guest a swap file or partition of {SWAP} or so"),
        )
    })
}

fn no_agent(facts: &Facts<'_>) -> Option<Candidate> {
    let vm = facts.vm;
    let none = vm.settings.dynamic && vm.state == VmState::Running && vm.integration != Integration::Agent;
    none.then(|| {
        let sentence = match vm.integration {
            Integration::None => "Nobody reports from its guest, so its memory does not move".to_owned(),
            _ => "Its demand is taken from balloon statistics, which are slower and know less".to_owned(),
        };
        candidate("no-agent", Severity::Warning, sentence, "Install dynmem-agent in the guest")
    })
}

fn buffer_too_small(facts: &Facts<'_>) -> Option<Candidate> {
    let (settings, usage) = (&facts.vm.settings, facts.usage);
    let short = usage.short_minutes;
    // Where it has all that it may have, a buffer does not help.
    let bounded = facts.vm.assigned_bytes >= settings.maximum_bytes;
    (settings.dynamic && !bounded && short >= SHORT_MINUTES).then(|| {
        let sentence = format!(
            "In {short} minutes of the last day it needed more than it had for a moment, though there was memory for it"
        );
        let more = settings.buffer_percent.get().saturating_add(10).clamp(30, 2000);
        candidate("buffer-too-small", Severity::Hint, sentence, format!("Raise its buffer, to {more}% for instance"))
    })
}

fn buffer_too_large(facts: &Facts<'_>) -> Option<Candidate> {
    let (settings, usage) = (&facts.vm.settings, facts.usage);
    let known = usage.week_seconds >= KNOWN_SECONDS;
    let idle = settings.dynamic && known && usage.is_steady && settings.buffer_percent.get() > 10;
    idle.then(|| {
        let sentence = format!(
            "For days its demand has not grown by more than 2% within a minute, and its buffer is {}",
            settings.buffer_percent
        );
        candidate(
            "buffer-too-large",
            Severity::Hint,
            sentence,
            "Lower its buffer, to 10% for instance: a steady guest needs no more",
        )
    })
}

#[cfg(test)]
mod tests;
