//! What the tests of the command line share: a daemon that only knows canned
//! answers, and a terminal.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::fd::OwnedFd,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use dynmem_footprint::Footprint;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use serde_json::{Value, json};

/// A request as the canned daemon saw it: `POST /v1/vms/a/start`, and its body.
pub(crate) type Seen = (String, String);

/// Answers every request by a function, in a folder that ends with it.
pub(crate) struct Canned {
    pub(crate) directory: Footprint,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Canned {
    /// A text is answered as it is, all else as JSON.
    pub(crate) fn new(answer: impl Fn(&str, &str) -> (u16, Value) + Send + Sync + 'static) -> Self {
        let directory = Footprint::new().expect("a temporary directory");
        let listener = UnixListener::bind(directory.path().join("api.sock")).expect("a new socket");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        thread::spawn(move || {
            let (answer, log) = (&answer, &log);
            thread::scope(|clients| {
                for stream in listener.incoming() {
                    let stream = stream.expect("a client");
                    clients.spawn(move || serve(stream, answer, log)); // one may have to wait for another
                }
            });
        });
        Self { directory, seen }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What was asked so far, without the questions that change nothing.
    pub(crate) fn changes(&self) -> Vec<Seen> {
        let seen = self.seen.lock().expect("no test panics with it");
        seen.iter().filter(|(line, _)| !line.starts_with("GET ")).cloned().collect()
    }

    /// True if this was asked.
    pub(crate) fn asked(&self, question: &str) -> bool {
        self.seen.lock().expect("no test panics with it").iter().any(|(line, _)| line == question)
    }

    /// `dynmem` with these words, to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        dynmem(&self.socket()).args(words).output().expect("dynmem runs")
    }
}

fn serve(mut stream: UnixStream, answer: impl Fn(&str, &str) -> (u16, Value), log: &Mutex<Vec<Seen>>) {
    let Some((line, body)) = read_request(&stream) else { return };
    let (status, value) = answer(&line, &body);
    log.lock().expect("no test panics with it").push((line, body));
    let body = match value {
        _ if status == 204 => String::new(),
        Value::String(text) => text,
        value => value.to_string(),
    };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(format!("{head}{body}").as_bytes()); // the client may be gone
}

fn read_request(stream: &UnixStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        match header.trim_end().split_once(": ") {
            Some(("content-length", value)) => length = value.parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = line.trim_end().strip_suffix(" HTTP/1.1")?.to_owned();
    Some((line, String::from_utf8(body).ok()?))
}

/// `dynmem`, asking at `socket`, with nothing of our environment that changes
/// how it looks.
pub(crate) fn dynmem(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dynmem"));
    command.env("DYNMEM_SOCKET", socket).env_remove("COLUMNS").env_remove("NO_COLOR").env("TERM", "xterm");
    command
}

/// A VM that is off, in short.
pub(crate) fn vm(name: &str) -> Value {
    json!({
        "name": name, "state": "off", "assigned_bytes": 0, "demand_bytes": 0, "target_bytes": 0, "vcpus": 1,
        "integration": "none", "driver": {"state": "ok"},
        "settings": {"dynamic": true, "startup_bytes": 512 << 20, "minimum_bytes": 256 << 20,
            "maximum_bytes": 1_u64 << 30, "buffer_percent": 20, "weight": 5000, "demand_model": "working-set"}
    })
}

pub(crate) fn problem(status: u16, detail: &str) -> (u16, Value) {
    (status, json!({"type": "about:blank", "title": "?", "status": status, "detail": detail}))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// A terminal: our end, and the one that a program gets.
pub(crate) struct Terminal {
    ours: OwnedFd,
    theirs: OwnedFd,
    screen: String,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).expect("a pseudo-terminal");
        grantpt(&ours).expect("granted");
        unlockpt(&ours).expect("unlocked");
        let theirs = ioctl_tiocgptpeer(&ours, flags).expect("its other end");
        Self { ours, theirs, screen: String::new() }
    }

    pub(crate) fn program_end(&self) -> Stdio {
        self.theirs.try_clone().expect("a descriptor").into()
    }

    /// The terminal's modes, to be compared.
    pub(crate) fn modes(&self) -> String {
        format!("{:?}", rustix::termios::tcgetattr(&self.theirs).expect("a terminal"))
    }

    pub(crate) fn type_in(&self, keys: &[u8]) {
        rustix::io::write(&self.ours, keys).expect("typed");
    }

    /// Reads the screen on, up to the end of `wanted`.
    pub(crate) fn read_until(&mut self, wanted: &str) -> String {
        let mut piece = [0; 4096];
        loop {
            if let Some(start) = self.screen.find(wanted) {
                let rest = self.screen.split_off(start + wanted.len());
                return std::mem::replace(&mut self.screen, rest);
            }
            // The test runner's own limit ends a wait for what never comes.
            let count = rustix::io::read(&self.ours, &mut piece).expect("the screen");
            self.screen.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    }
}
