//! [`Agent`]: the loop that connects readings, decisions, the port and the
//! people who ask.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use dynmem_agent_protocol::{Assigned, GuestMessage, Hello, HostMessage, LineDecoder, PORT_NAME, Report, encode};
use dynmem_units::Bytes;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    system::{sysinfo, uname},
};

use crate::{
    meter::Meter,
    pace::{Pace, Probe},
    port::Port,
    status::{Aged, Status, StatusServer},
    uptime,
};

/// How often a port without a listener is looked at.
const LISTENER_RETRY_MS: u64 = 100;
/// How often a port is looked for.
const PORT_RETRY_MS: u64 = 1000;
/// How long the host has to answer a greeting before it is repeated.
const GREET_AGAIN_MS: u64 = 5000;
/// Fires when tasks stalled for 20 ms within half a second, all together.
const PSI_TRIGGER: &[u8] = b"some 20000 500000\0";

/// What an agent works with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where `/proc`, `/sys` and `/dev` are: `/` except in tests.
    pub root: PathBuf,
    /// The port's device file; found by its name if not given.
    pub port: Option<PathBuf>,
    /// Where to answer `dynmem-agent status`.
    pub status: PathBuf,
}

/// The running agent.
#[derive(Debug)]
pub struct Agent {
    options: Options,
    meter: Meter,
    pace: Pace,
    trigger: Option<File>,
    status: Option<StatusServer>,
    port: Option<Port>,
    listener: Option<Listener>,
    decoder: LineDecoder,
    report: Option<Report>,
    assigned: Option<(u64, Assigned)>,
    next_seq: u64,
    complained: bool,
}

/// A host that has the port open.
#[derive(Debug)]
struct Listener {
    greeted_ms: u64,
    welcomed: bool,
}

impl Agent {
    /// Opens what there is. Only the kernel's files are indispensable: the
    /// port may come later, PSI and the status socket may be missing.
    pub fn new(options: Options) -> anyhow::Result<Self> {
        let page_bytes = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        let meter = Meter::open(&options.root, page_bytes)?;
        let status = StatusServer::bind(&options.status)
            .inspect_err(|error| eprintln!("dynmem-agent: `dynmem-agent status` will not work: {error:#}"))
            .ok();
        Ok(Self {
            trigger: meter.has_psi().then(|| psi_trigger(&options.root)).flatten(),
            meter,
            pace: Pace::default(),
            status,
            port: None,
            listener: None,
            decoder: LineDecoder::new(),
            report: None,
            assigned: None,
            next_seq: 0,
            complained: false,
            options,
        })
    }

    /// Works until the kernel's files can't be read any more, which is the
    /// error that it ends with.
    pub fn run(mut self) -> anyhow::Result<std::convert::Infallible> {
        loop {
            self.turn()?;
        }
    }

    /// One round: look, tell, sleep, hear. Takes at most one probe interval.
    pub fn turn(&mut self) -> anyhow::Result<()> {
        let now_ms = uptime_ms();
        self.keep_listener(now_ms);
        self.look(now_ms)?;
        if self.port.as_mut().is_some_and(|port| port.flush().is_err()) {
            self.lose_port();
        }
        self.sleep(now_ms)
    }

    /// Finds the port, and notices who comes and goes on its other end.
    fn keep_listener(&mut self, now_ms: u64) {
        if self.port.is_none() {
            self.port = self.open_port();
        }
        let Some(port) = &mut self.port else { return };
        match &mut self.listener {
            Some(listener) if listener.welcomed || now_ms - listener.greeted_ms < GREET_AGAIN_MS => return,
            Some(_) => {}
            None => match port.is_connected() {
                Ok(true) => {
                    self.decoder.reset();
                    self.pace.new_listener();
                    port.drop_pending();
                }
                Ok(false) => return,
                Err(_) => return self.lose_port(),
            },
        }
        let hello = Hello::new(env!("CARGO_PKG_VERSION"), uname().release().to_string_lossy());
        if let Ok(line) = encode(&GuestMessage::Hello(hello)) {
            // The empty line ends whatever an earlier agent left unfinished.
            port.queue(b"\n");
            port.queue(&line);
        }
        if port.flush().is_err() {
            return self.lose_port();
        }
        self.listener = Some(Listener { greeted_ms: now_ms, welcomed: false });
    }

    fn open_port(&mut self) -> Option<Port> {
        let path = self.options.port.clone().or_else(|| Port::find(&self.options.root, PORT_NAME));
        let outcome = path
            .as_deref()
            .with_context(|| format!("There is no virtio-serial port {PORT_NAME}: it is looked for again and again"))
            .and_then(|path| {
                Port::open(path)
                    .with_context(|| format!("Cannot open {}: does another program use it?", path.display()))
            });
        match outcome {
            Ok(port) => {
                self.complained = false;
                Some(port)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    eprintln!("dynmem-agent: {error:#}");
                }
                None
            }
        }
    }

    fn lose_port(&mut self) {
        self.port = None;
        self.listener = None;
    }

    /// Probes, measures if that is called for, and queues what is news. While
    /// the host does not take what waits, there is nothing to look for: the
    /// next reading is to be fresh.
    fn look(&mut self, now_ms: u64) -> anyhow::Result<()> {
        let Some(port) = self.port.as_mut().filter(|port| self.listener.is_some() && !port.has_pending()) else {
            return Ok(());
        };
        let probe = probe();
        if !self.pace.wants_reading(now_ms, probe) {
            return Ok(());
        }
        let mut report = self.meter.measure(now_ms)?;
        let reason = self.pace.judge(now_ms, probe, &report);
        if let Some(reason) = reason {
            report.seq = self.next_seq;
            report.reason = reason;
            match encode(&GuestMessage::Report(report.clone())) {
                Ok(line) => {
                    port.queue(&line);
                    self.next_seq += 1;
                }
                // The kernel's books don't match for a moment: the next
                // reading comes soon.
                Err(error) => eprintln!("dynmem-agent: A reading makes no sense and is not sent: {error}"),
            }
        }
        self.report = Some(report);
        Ok(())
    }

    /// Sleeps until the next look or until something happens, and hears it.
    fn sleep(&mut self, now_ms: u64) -> anyhow::Result<()> {
        let connected_port = self.port.as_ref().filter(|_| self.listener.is_some());
        let wait_ms = match (&self.port, &self.listener) {
            (None, _) => PORT_RETRY_MS,
            (_, None) => LISTENER_RETRY_MS,
            _ => self.pace.wait_ms(now_ms),
        };
        let (mut sources, mut fds) = (Vec::with_capacity(3), Vec::with_capacity(3));
        if let Some(status) = &self.status {
            sources.push(Source::Status);
            fds.push(PollFd::new(status, PollFlags::IN));
        }
        if let Some(trigger) = &self.trigger {
            sources.push(Source::Trigger);
            fds.push(PollFd::new(trigger, PollFlags::PRI));
        }
        if let Some(port) = connected_port {
            sources.push(Source::Port);
            fds.push(PollFd::new(port, port.interest()));
        }
        let timeout = Timespec::try_from(Duration::from_millis(wait_ms)).context("A sleep is too long")?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("Cannot wait for events"),
        }
        let events: Vec<_> = sources.into_iter().zip(fds.iter().map(PollFd::revents)).collect();
        for (source, flags) in events {
            match source {
                _ if flags.is_empty() => {}
                Source::Status => self.answer(),
                Source::Trigger if flags.contains(PollFlags::ERR) => self.trigger = None,
                Source::Trigger => self.pace.alarm(uptime_ms()),
                Source::Port => self.hear(flags),
            }
        }
        Ok(())
    }

    fn hear(&mut self, flags: PollFlags) {
        let Some(port) = &mut self.port else { return };
        let mut buffer = [0; 4096];
        match port.read(&mut buffer) {
            Err(_) => return self.lose_port(),
            Ok(length) => {
                let mut chunk = &buffer[..length];
                while let Some(message) = self.decoder.next(&mut chunk) {
                    match message {
                        Ok(message) => self.obey(message),
                        Err(error) => eprintln!("dynmem-agent: The host's message is ignored: {error}"),
                    }
                }
            }
        }
        if flags.contains(PollFlags::HUP) {
            self.listener = None;
        }
    }

    fn obey(&mut self, message: HostMessage) {
        match message {
            HostMessage::Welcome(welcome) => {
                self.pace.set_heartbeat_ms(welcome.heartbeat_ms.into());
                if let Some(listener) = &mut self.listener {
                    listener.welcomed = true;
                }
            }
            HostMessage::Assigned(assigned) => self.assigned = Some((uptime_ms(), assigned)),
            HostMessage::Unknown => {}
        }
    }

    fn answer(&mut self) {
        let now_ms = uptime_ms();
        // Without a listener nothing is measured: measure for the person.
        if self.listener.is_none()
            && let Ok(report) = self.meter.measure(now_ms)
        {
            self.report = Some(report);
        }
        let status = Status {
            host_connected: self.listener.is_some(),
            report: self
                .report
                .clone()
                .map(|report| Aged { age_ms: now_ms.saturating_sub(report.uptime_ms), value: report }),
            assigned: self
                .assigned
                .clone()
                .map(|(at_ms, assigned)| Aged { age_ms: now_ms.saturating_sub(at_ms), value: assigned }),
        };
        if let Some(server) = &self.status {
            server.answer(&status);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Status,
    Trigger,
    Port,
}

fn uptime_ms() -> u64 {
    u64::try_from(uptime().as_millis()).unwrap_or(u64::MAX)
}

fn probe() -> Probe {
    let info = sysinfo();
    let unit = u64::from(info.mem_unit);
    Probe { total: Bytes::new(info.totalram.saturating_mul(unit)), free: Bytes::new(info.freeram.saturating_mul(unit)) }
}

/// A file that polls with `PRI` when tasks stall. `None` where the kernel
/// offers no such trigger: then the readings have to do.
fn psi_trigger(root: &Path) -> Option<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let path = root.join("proc/pressure/memory");
    let mut file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok()?;
    file.write_all(PSI_TRIGGER).ok()?;
    Some(file)
}

/// Prepares this process for hard times: never paged out, never chosen by the
/// OOM killer, served first. Returns what did not work; the agent works
/// without, only less well.
pub fn brace_for_hard_times() -> Vec<String> {
    use rustix::{
        mm::{MlockAllFlags, mlockall},
        process::setpriority_process,
    };
    let mut troubles = Vec::new();
    let mut note = |what: &str, outcome: Result<(), io::Error>| {
        if let Err(error) = outcome {
            troubles.push(format!("Cannot {what}: {error}"));
        }
    };
    note("lock the agent into memory", mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).map_err(Into::into));
    note("keep the OOM killer away", std::fs::write("/proc/self/oom_score_adj", "-1000"));
    note("raise the agent's priority", setpriority_process(None, -20).map_err(Into::into));
    troubles
}
