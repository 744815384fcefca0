//! The controller and a real holder process, against a host that the test
//! plays over a pseudo terminal in place of the port.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    path::Path,
    time::{Duration, Instant},
};

use dynmem_agent_protocol::{LineDecoder, encode};
use dynmem_units::Bytes;
use dynmem_workload::{
    PORT_NAME,
    controller::{Controller, Options},
    message::{Answer, Call, Request, Response, Status, Verified},
};
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

struct Guest {
    controller: Controller,
    host: File,
    decoder: LineDecoder,
    next_id: u64,
    _other_end: File,
    _root: TempDir,
}

impl Guest {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let (host, other_end) = port(root.path());
        let program = env!("CARGO_BIN_EXE_dynmem-workload").into();
        let controller = Controller::new(Options { root: root.path().to_owned(), program });
        Self { controller, host, decoder: LineDecoder::new(), next_id: 1, _other_end: other_end, _root: root }
    }

    /// Lets the controller work until it has answered.
    fn call(&mut self, request: Request) -> Response {
        let id = self.next_id;
        self.next_id += 1;
        self.host.write_all(&encode(&Call { id, request }).expect("sensible")).expect("room in the terminal");
        self.answer_to(id)
    }

    fn answer_to(&mut self, id: u64) -> Response {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            self.controller.turn().expect("the controller survives");
            let mut buffer = [0; 8192];
            let length = match self.host.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                outcome => outcome.expect("an open port"),
            };
            let mut chunk = &buffer[..length];
            if let Some(answer) = self.decoder.next::<Answer>(&mut chunk) {
                let answer = answer.expect("well-formed");
                assert_eq!(answer.id, id, "{answer:?}");
                return answer.response;
            }
        }
        panic!("no answer within {PATIENCE:?}");
    }

    fn status(&mut self) -> Status {
        match self.call(Request::Status) {
            Response::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn until(&mut self, wanted: impl Fn(&Status) -> bool) -> Status {
        let start = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "{status:?}");
        }
    }

    fn grow(&mut self, mib: u64) {
        let request = Request::Grow { bytes: Bytes::from_mib(mib), bytes_per_second: Some(Bytes::GIB) };
        assert!(matches!(self.call(request), Response::Accepted { .. }));
    }
}

fn port(root: &Path) -> (File, File) {
    let host = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
    grantpt(&host).expect("ours");
    unlockpt(&host).expect("ours");
    let name = ptsname(&host, Vec::new()).expect("it has a name").into_string().expect("a path");
    let other_end = OpenOptions::new().read(true).write(true).open(&name).expect("its other end");
    let mut settings = tcgetattr(&other_end).expect("a terminal");
    settings.make_raw();
    tcsetattr(&other_end, OptionalActions::Now, &settings).expect("raw");
    rustix::io::ioctl_fionbio(&host, true).expect("non-blocking");
    let ports = root.join("dev/virtio-ports");
    fs::create_dir_all(&ports).expect("a directory");
    std::os::unix::fs::symlink(name, ports.join(PORT_NAME)).expect("a link as udev makes it");
    (File::from(host), other_end)
}

/// The holder that this process started: the only child with that argument.
fn holder_of_this_thread() -> Pid {
    let own = std::process::id().to_string();
    let task = rustix::thread::gettid().as_raw_nonzero().to_string();
    let children = fs::read_to_string(format!("/proc/{own}/task/{task}/children")).expect("the kernel lists children");
    let child = children.split_whitespace().next().expect("a holder").parse().expect("a number");
    Pid::from_raw(child).expect("not zero")
}

#[test]
fn it_grows_verifies_shrinks_and_holds() {
    let mut guest = Guest::new();
    assert_eq!(guest.call(Request::Ping), Response::Pong);
    guest.grow(10);
    guest.until(|status| status.held_bytes == Bytes::from_mib(10));
    assert_eq!(guest.call(Request::Verify), Response::Verified(Verified { pages: 2560, broken: 0 }));
    assert_eq!(
        guest.call(Request::Shrink { bytes: Bytes::from_mib(7) }),
        Response::Accepted { goal_bytes: Bytes::from_mib(3) }
    );
    let status = guest.until(Status::is_settled);
    assert_eq!((status.held_bytes, status.broken, status.oom_kills), (Bytes::from_mib(3), 0, 0));
    assert_eq!(guest.call(Request::Hold), Response::Accepted { goal_bytes: Bytes::from_mib(3) });
    assert!(status.verified_pages >= 2560);
}

#[test]
fn a_spike_reports_when_it_is_allocated_and_that_no_host_helped() {
    let mut guest = Guest::new();
    let response = guest.call(Request::Spike { bytes: Bytes::from_mib(8), wait_ms: Some(0) });
    let Response::Spiked(spiked) = response else { panic!("{response:?}") };
    assert_eq!(spiked.first_grant_ms, None);
    assert_eq!(spiked.visible_before_bytes, spiked.visible_after_bytes);
    assert_eq!(guest.until(Status::is_settled).held_bytes, Bytes::from_mib(8));
}

#[test]
fn a_killed_holder_is_a_loss_that_is_told_and_the_next_one_works() {
    let mut guest = Guest::new();
    guest.grow(8);
    guest.until(|status| status.held_bytes == Bytes::from_mib(8));
    kill_process(holder_of_this_thread(), Signal::KILL).expect("ours");
    let status = guest.until(|status| status.oom_kills == 1);
    assert_eq!(
        (status.lost_bytes, status.held_bytes, status.goal_bytes),
        (Bytes::from_mib(8), Bytes::ZERO, Bytes::ZERO)
    );
    guest.grow(4);
    guest.until(|status| status.held_bytes == Bytes::from_mib(4));
}

#[test]
fn what_it_cannot_do_it_refuses_and_goes_on() {
    let mut guest = Guest::new();
    for line in ["{\"type\":\"grow\"", "{\"id\":0,\"type\":\"grow\",\"bytes\":-5}", "{\"id\":0,\"type\":\"dance\"}"] {
        guest.host.write_all(format!("{line}\n").as_bytes()).expect("room in the terminal");
        let response = guest.answer_to(0);
        assert!(matches!(response, Response::Refused { .. }), "{response:?}");
    }
    guest.grow(4);
    guest.until(Status::is_settled);
    assert_eq!(guest.call(Request::Ping), Response::Pong);
}
