//! What people see on a terminal, and that they get it back.

use std::{
    io::{Read, Write},
    os::unix::net::UnixListener,
    process::{Child, Stdio},
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use dynmem_footprint::Footprint;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

mod support;
use support::{Canned, Terminal, dynmem, vm};

/// A daemon with one VM whose console is a socket of ours, and the folder that
/// ends with the test: the daemon's thread does not.
fn daemon_with_console() -> (Canned, UnixListener, Footprint) {
    let folder = Footprint::new().expect("a temporary directory");
    let console = folder.path().join("console.sock");
    let listener = UnixListener::bind(&console).expect("a new socket");
    let daemon = Canned::new(move |_, _| {
        let mut vm = vm("web01");
        vm["state"] = json!("running");
        vm["console_path"] = json!(console);
        (200, json!([vm]))
    });
    (daemon, listener, folder)
}

fn open_console(daemon: &Canned, terminal: &Terminal) -> Child {
    dynmem(&daemon.socket())
        .args(["vm", "console", "web01"])
        .stdin(terminal.program_end())
        .stdout(terminal.program_end())
        .stderr(Stdio::null())
        .spawn()
        .expect("dynmem runs")
}

#[test]
fn a_console_carries_every_key_until_the_escape() {
    let (daemon, console, _folder) = daemon_with_console();
    let mut terminal = Terminal::new();
    let before = terminal.modes();
    let mut child = open_console(&daemon, &terminal);
    let (mut guest, _) = console.accept().expect("the console");
    guest.write_all(b"web01 login: ").expect("said");
    terminal.read_until("web01 login: "); // by now the terminal is raw
    assert_ne!(terminal.modes(), before);
    terminal.type_in(b"root\x03\x04\r"); // Ctrl-C and Ctrl-D are the guest's
    let mut keys = [0; 7];
    guest.read_exact(&mut keys).expect("the keys");
    assert_eq!(&keys, b"root\x03\x04\r");
    terminal.type_in(b"\x1d");
    assert_eq!(child.wait().expect("an end").code(), Some(0));
    assert_eq!(terminal.modes(), before);
}

#[test]
fn however_a_console_ends_the_terminal_is_as_before() {
    for end in [None, Some(Signal::TERM), Some(Signal::HUP), Some(Signal::INT)] {
        let (daemon, console, _folder) = daemon_with_console();
        let mut terminal = Terminal::new();
        let before = terminal.modes();
        let mut child = open_console(&daemon, &terminal);
        let (mut guest, _) = console.accept().expect("the console");
        guest.write_all(b"hello").expect("said");
        terminal.read_until("hello");
        match end {
            Some(signal) => kill_process(Pid::from_child(&child), signal).expect("a signal"),
            None => drop(guest), // the machine is gone
        }
        assert_eq!(child.wait().expect("an end").code(), Some(0), "{end:?}");
        assert_eq!(terminal.modes(), before, "{end:?}");
    }
}

#[test]
fn without_a_terminal_a_console_is_a_pipe() {
    let (daemon, console, _folder) = daemon_with_console();
    let mut child = dynmem(&daemon.socket())
        .args(["vm", "console", "web01"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("dynmem runs");
    let (mut guest, _) = console.accept().expect("the console");
    child.stdin.take().expect("piped").write_all(b"uptime\n").expect("typed"); // and closed
    let mut line = [0; 7];
    guest.read_exact(&mut line).expect("the line");
    assert_eq!(&line, b"uptime\n");
    guest.write_all(b"up 3 days\n").expect("said");
    drop(guest);
    let output = child.wait_with_output().expect("an end");
    assert_eq!((output.status.code(), output.stdout), (Some(0), b"up 3 days\n".to_vec()));
}

#[test]
fn a_vm_that_is_off_has_no_console() {
    let daemon = Canned::new(|_, _| (200, json!([vm("web01")])));
    let output = daemon.run(&["vm", "console", "web01"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told, "VM \"web01\" is off: it has a console only while it is on\n");
}

#[test]
fn watching_draws_in_place_and_leaves_the_last_moment_on_the_screen() {
    let daemon = Canned::new(|line, _| match line {
        "GET /v1/host" => (200, json!({"memory_bytes": 1_u64 << 30})),
        _ => (200, json!([vm("web01")])),
    });
    let mut terminal = Terminal::new();
    let mut child = dynmem(&daemon.socket())
        .args(["watch", "--interval", "0.1"])
        .stdout(terminal.program_end())
        .spawn()
        .expect("dynmem runs");
    let open = terminal.read_until("\u{1b}[J\u{1b}[H"); // the second moment begins
    assert!(open.starts_with("\u{1b}[?1049h\u{1b}[?25l"), "{open:?}");
    kill_process(Pid::from_child(&child), Signal::INT).expect("a signal");
    let rest = terminal.read_until("\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l");
    assert!(rest.contains("web01"), "{rest:?}");
    terminal.read_until("web01"); // the last moment stays
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}

/// `dynmem` on a terminal, for a daemon with a VM that runs and one that is off.
fn asked(words: &[&str]) -> (Canned, Terminal, Child) {
    let daemon = Canned::new(|line, _| {
        let mut web01 = vm("web01");
        (web01["state"], web01["uptime_seconds"]) = (json!("running"), json!(75));
        match line {
            "GET /v1/vms" => (200, json!([web01, vm("db")])),
            line if line.starts_with("DELETE ") => (204, json!(null)),
            _ => (200, web01),
        }
    });
    let terminal = Terminal::new();
    let child = dynmem(&daemon.socket())
        .args(words)
        .stdin(terminal.program_end())
        .stdout(Stdio::piped())
        .stderr(terminal.program_end())
        .spawn()
        .expect("dynmem runs");
    (daemon, terminal, child)
}

#[test]
fn what_would_be_lost_is_told_and_done_only_if_that_is_typed_which_was_asked_for() {
    for (words, question, answer, code) in [
        (&["vm", "delete", "db"][..], "db: its definition would be deleted; its disks stay", "db\r", 0),
        (&["vm", "delete", "db"], "Type the VM's name to confirm (db): ", "yes\r", 1),
        (&["vm", "delete", "db"], "That can't be undone.", "\x04", 1),
        (&["vm", "delete", "*"], "Type yes to confirm (yes): ", "yes\r", 0),
        (&["vm", "delete", "*"], "Type yes to confirm (yes): ", "y\r", 1),
        // Of the two, one has something to lose.
        (
            &["vm", "stop", "*", "--force"],
            "web01: it is running and would be switched off, after 00:01:15",
            "web01\r",
            0,
        ),
        (&["vm", "stop", "*", "--force"], "(web01): ", "db\r", 1),
    ] {
        let (daemon, mut terminal, mut child) = asked(words);
        terminal.read_until(question);
        terminal.type_in(answer.as_bytes());
        assert_eq!(child.wait().expect("an end").code(), Some(code), "{words:?} {answer:?}");
        assert_eq!(daemon.changes().is_empty(), code != 0, "{words:?} {answer:?}");
    }
}

#[test]
fn nobody_is_asked_where_nothing_is_lost_or_yes_is_said() {
    for words in [&["vm", "stop", "db", "--force"][..], &["vm", "stop", "web01"], &["vm", "delete", "*", "-y"]] {
        let (daemon, _terminal, mut child) = asked(words);
        assert_eq!(child.wait().expect("an end").code(), Some(0), "{words:?}");
        assert!(!daemon.changes().is_empty(), "{words:?}");
    }
}

#[test]
fn without_a_terminal_what_loses_something_is_refused_as_a_wrong_line() {
    let daemon = Canned::new(|_, _| {
        let mut web01 = vm("web01");
        (web01["state"], web01["saved_bytes"]) = (json!("saved"), json!(512 << 20));
        web01["meter"] = json!({"since_unix_ms": 1_767_225_600_000_u64, "period_seconds": 60, "measured_seconds": 60});
        (200, json!([web01]))
    });
    for (words, told) in [
        (["vm", "delete"], "web01: its definition, with what was metered, would be deleted; its disks stay\n"),
        (["vm", "discard"], "web01: what was saved of it (512 MiB) would be deleted; all that its programs"),
        (["meter", "reset"], "web01: what was metered of it since 2026-01-01 00:00:00Z would be forgotten\n"),
        (["meter", "disable"], "Nobody can be asked without a terminal: write --yes if that is wanted\n"),
    ] {
        let output = daemon.run(&[&words[..], &["web01"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(told), "{words:?}: {said}");
    }
    assert_eq!(daemon.changes(), []);
}

/// A daemon whose VM starts once the test says so, and waits for another
/// meanwhile.
fn slow_daemon() -> (Canned, mpsc::Sender<()>) {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let daemon = Canned::new(move |line, _| {
        let mut web01 = vm("web01");
        match line {
            "POST /v1/vms/web01/start" => {
                wait.lock().expect("only here").recv().expect("the test says so");
                (200, web01)
            }
            "GET /v1/live?interval_ms=500" => {
                web01["state"] = json!("starting");
                let host = json!({"memory_bytes": 1_u64 << 30});
                let snapshot = json!({"host": host, "vms": [web01, vm("db")]});
                (200, json!(format!("event: snapshot\ndata: {snapshot}\n\n")))
            }
            "GET /v1/vms/web01/explanation" => {
                let mut why = json!({"name": "web01", "sentence": "", "why": "waits-to-start", "weight": 1,
                    "sharers_total": 0, "owed": [{"name": "db", "bytes": 300 << 20, "stuck": false}]});
                for name in
                    "assigned promised demand wanted target due minimum maximum available lendable owed".split(' ')
                {
                    why[format!("{name}_bytes")] = json!(0);
                }
                (200, why)
            }
            _ => (200, json!([web01, vm("db")])),
        }
    });
    (daemon, go)
}

#[test]
fn who_waits_on_a_terminal_is_told_for_what_and_the_line_goes() {
    let (daemon, go) = slow_daemon();
    let mut terminal = Terminal::new();
    let mut child = dynmem(&daemon.socket())
        .args(["vm", "start", "web01"])
        .stdin(Stdio::null())
        .stdout(terminal.program_end())
        .stderr(terminal.program_end())
        .spawn()
        .expect("dynmem runs");
    terminal.read_until("\r\u{1b}[Kweb01: starting – waits for db to give back 300 MiB (");
    terminal.read_until("(2 s)"); // also where nothing changes
    go.send(()).expect("it waits");
    let rest = terminal.read_until("web01: started\r\n");
    assert!(rest.ends_with("\r\u{1b}[Kweb01: started\r\n"), "{rest:?}");
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}

#[test]
fn a_script_waits_in_silence() {
    let (daemon, go) = slow_daemon();
    let child = dynmem(&daemon.socket())
        .args(["vm", "start", "web01"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("dynmem runs");
    thread::sleep(Duration::from_millis(1_500)); // on a terminal, a line would have been drawn by now
    go.send(()).expect("it waits");
    let output = child.wait_with_output().expect("an end");
    assert_eq!((output.stdout, output.stderr), (b"web01: started\n".to_vec(), Vec::new()));
    assert!(!daemon.asked("GET /v1/live?interval_ms=500"));
}
