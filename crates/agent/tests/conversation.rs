//! The whole agent against a host that the test plays: the port is a pseudo
//! terminal, which hangs up and comes back as a virtio-serial port does.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use dynmem_agent::{
    agent::{Agent, Options},
    status,
};
use dynmem_agent_protocol::{
    Assigned, GuestMessage, HostMessage, LineDecoder, PORT_NAME, Reason, Report, Welcome, encode,
};
use dynmem_units::Bytes;
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// The host's end of the port.
struct Host {
    terminal: File,
    /// Keeps the terminal's settings while the agent doesn't have it open.
    _other_end: File,
    decoder: LineDecoder,
    heard: VecDeque<GuestMessage>,
}

impl Host {
    /// Opens a port that an agent with this root will find.
    fn connect(root: &Path) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
        grantpt(&terminal).expect("ours");
        unlockpt(&terminal).expect("ours");
        let name = ptsname(&terminal, Vec::new()).expect("it has a name").into_string().expect("a path");
        let other_end = OpenOptions::new().read(true).write(true).open(&name).expect("its other end");
        let mut settings = tcgetattr(&other_end).expect("a terminal");
        settings.make_raw();
        tcsetattr(&other_end, OptionalActions::Now, &settings).expect("raw");
        rustix::io::ioctl_fionbio(&terminal, true).expect("non-blocking");
        let ports = root.join("dev/virtio-ports");
        fs::create_dir_all(&ports).expect("a directory");
        let _ = fs::remove_file(ports.join(PORT_NAME));
        std::os::unix::fs::symlink(name, ports.join(PORT_NAME)).expect("a link as udev makes it");
        Self {
            terminal: File::from(terminal),
            _other_end: other_end,
            decoder: LineDecoder::new(),
            heard: VecDeque::new(),
        }
    }

    fn say(&mut self, message: &HostMessage) {
        self.terminal.write_all(&encode(message).expect("believable")).expect("room in the terminal");
    }

    fn hear(&mut self) {
        let mut buffer = [0; 8192];
        let length = match self.terminal.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            outcome => outcome.expect("the agent holds its end open"),
        };
        let mut chunk = &buffer[..length];
        while let Some(message) = self.decoder.next(&mut chunk) {
            self.heard.push_back(message.expect("well-formed"));
        }
    }
}

fn guest() -> TempDir {
    let root = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir_all(root.path().join("proc")).expect("a directory");
    write_meminfo(root.path(), 200);
    fs::write(root.path().join("proc/vmstat"), "pswpin 0\n").expect("a file");
    root
}

fn write_meminfo(root: &Path, available_mib: u64) {
    let text = format!("MemTotal: {} kB\nMemFree: 1024 kB\nMemAvailable: {} kB\n", 256 << 10, available_mib << 10);
    fs::write(root.join("proc/meminfo"), text).expect("a file");
}

fn agent(root: &Path) -> Agent {
    let options = Options { root: root.to_owned(), port: None, status: root.join("status.sock") };
    Agent::new(options).expect("a complete tree")
}

/// Lets the agent work until the host hears what `wanted` looks for; what
/// comes after that is heard the next time.
fn until<T>(agent: &mut Agent, host: &mut Host, wanted: impl Fn(&GuestMessage) -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        while let Some(message) = host.heard.pop_front() {
            if let Some(found) = wanted(&message) {
                return found;
            }
        }
        agent.turn().expect("a readable tree");
        host.hear();
    }
    panic!("the agent has not sent it within {PATIENCE:?}")
}

fn report(message: &GuestMessage) -> Option<Report> {
    match message {
        GuestMessage::Report(report) => Some(report.clone()),
        _ => None,
    }
}

#[test]
fn it_greets_reports_and_tells_a_person_what_the_host_said() {
    let root = guest();
    let (mut agent, mut host) = (agent(root.path()), Host::connect(root.path()));
    let hello = until(&mut agent, &mut host, |message| match message {
        GuestMessage::Hello(hello) => Some(hello.clone()),
        _ => None,
    });
    assert_eq!((hello.protocol, hello.agent_version.as_str()), (1, env!("CARGO_PKG_VERSION")));
    host.say(&HostMessage::Welcome(Welcome { protocol: 1, heartbeat_ms: 100 }));
    host.say(&HostMessage::Assigned(Assigned { assigned_bytes: Bytes::from_mib(384), ..Assigned::default() }));
    // The heartbeat that the host asked for; ours would be fifty times as long.
    until(&mut agent, &mut host, |message| report(message).filter(|report| report.seq >= 3));

    let path = root.path().join("status.sock");
    let person = std::thread::spawn(move || status::ask(&path));
    while !person.is_finished() {
        agent.turn().expect("a readable tree");
    }
    let seen = person.join().expect("no panic").expect("an answer");
    assert!(seen.host_connected);
    assert_eq!(seen.assigned.expect("the host said so").value.assigned_bytes.mib(), 384);
}

#[test]
fn more_use_is_told_as_a_change() {
    let root = guest();
    let (mut agent, mut host) = (agent(root.path()), Host::connect(root.path()));
    let first = until(&mut agent, &mut host, report);
    assert_eq!((first.seq, first.available_bytes.mib()), (0, 200));
    write_meminfo(root.path(), 150);
    let change = until(&mut agent, &mut host, report);
    assert_eq!((change.reason, change.available_bytes.mib()), (Reason::Change, 150));
}

#[test]
fn garbage_from_the_host_disturbs_nothing() {
    let root = guest();
    let (mut agent, mut host) = (agent(root.path()), Host::connect(root.path()));
    until(&mut agent, &mut host, report);
    host.terminal.write_all(b"\x00{{{\n{\"type\":\"dance\"}\n").expect("room in the terminal");
    host.say(&HostMessage::Welcome(Welcome { protocol: 1, heartbeat_ms: 100 }));
    until(&mut agent, &mut host, |message| report(message).filter(|report| report.seq >= 2));
}

#[test]
fn when_the_host_comes_back_it_is_greeted_again() {
    let root = guest();
    let (mut agent, mut host) = (agent(root.path()), Host::connect(root.path()));
    // Nothing changes: without a new host, the next report is far away.
    host.say(&HostMessage::Welcome(Welcome { protocol: 1, heartbeat_ms: 60_000 }));
    until(&mut agent, &mut host, report);
    drop(host);
    agent.turn().expect("a hang-up is no error");
    let mut host = Host::connect(root.path());
    until(&mut agent, &mut host, |message| matches!(message, GuestMessage::Hello(_)).then_some(()));
    let report = until(&mut agent, &mut host, report);
    assert!(report.seq >= 1, "it counts on");
}

#[test]
fn without_a_port_it_waits_for_one() {
    let root = guest();
    let mut agent = agent(root.path());
    agent.turn().expect("no port is no error");
    let mut host = Host::connect(root.path());
    until(&mut agent, &mut host, report);
}
