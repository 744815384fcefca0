//! The process that the host talks to: answers each call, keeps the goal, and
//! drives the holder, which may die at any time.

use std::{
    io::{ErrorKind, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command as Program, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use dynmem_agent::port::Port;
use dynmem_agent_protocol::{LineDecoder, encode};
use dynmem_units::Bytes;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    system::{RebootCommand, Sysinfo, sysinfo},
};

use crate::{
    PORT_NAME, groups,
    holder::{Command, Event},
    message::{Answer, Call, DEFAULT_GROWTH, Request, Response, Spiked, Status, Verified},
    mischief,
};

/// How often the guest's memory is looked at during a spike.
const WATCH_EVERY: Duration = Duration::from_millis(1);
/// How often a port without a listener, or no port at all, is looked at.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// The longest sleep.
const IDLE: Duration = Duration::from_secs(10);
/// What a spike waits for memory from the host.
const DEFAULT_WAIT_MS: u64 = 5000;
const MAX_WAIT_MS: u64 = 60_000;
/// What the goodbye needs to reach the host.
const GOODBYE: Duration = Duration::from_millis(50);

/// What a controller works with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where `/sys` and `/dev` are: `/` except in tests.
    pub root: PathBuf,
    /// The program that is started as `PROGRAM hold`.
    pub program: PathBuf,
}

/// The running controller.
#[derive(Debug)]
pub struct Controller {
    options: Options,
    port: Option<Port>,
    connected: bool,
    decoder: LineDecoder,
    holder: Option<Holder>,
    status: Status,
    busy: Option<Busy>,
}

#[derive(Debug)]
struct Holder {
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
    decoder: LineDecoder,
}

/// A call that is answered later.
#[derive(Debug)]
enum Busy {
    Verifying { id: u64 },
    Spiking { id: u64, started: Instant, wait: Duration, allocated: bool, spiked: Spiked },
}

impl Controller {
    /// One that holds nothing; the port may come later.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            port: None,
            connected: false,
            decoder: LineDecoder::new(),
            holder: None,
            status: Status::default(),
            busy: None,
        }
    }

    /// One round: sleep until something happens, and deal with it. An error
    /// only if waiting itself fails.
    pub fn turn(&mut self) -> anyhow::Result<()> {
        self.keep_port();
        let (port_flags, holder_flags) = self.wait()?;
        if !holder_flags.is_empty() {
            self.hear_holder();
        }
        if !port_flags.is_empty() {
            self.hear_host(port_flags);
        }
        self.watch_spike();
        if self.port.as_mut().is_some_and(|port| port.flush().is_err()) {
            self.port = None;
        }
        Ok(())
    }

    fn keep_port(&mut self) {
        if self.port.is_none() {
            self.connected = false;
            self.port = Port::find(&self.options.root, PORT_NAME).and_then(|path| Port::open(&path).ok());
        }
        if !self.connected
            && let Some(port) = &mut self.port
        {
            match port.is_connected() {
                Ok(connected) => self.connected = connected,
                Err(_) => self.port = None,
            }
            self.decoder.reset();
        }
    }

    fn wait(&self) -> anyhow::Result<(PollFlags, PollFlags)> {
        let timeout = match (&self.busy, self.connected) {
            (Some(Busy::Spiking { .. }), _) => WATCH_EVERY,
            (_, false) => RETRY_EVERY,
            (_, true) => IDLE,
        };
        let port = self.port.as_ref().filter(|_| self.connected);
        let mut fds = Vec::with_capacity(2);
        fds.extend(port.map(|port| PollFd::new(port, port.interest())));
        fds.extend(self.holder.as_ref().map(|holder| PollFd::new(&holder.output, PollFlags::IN)));
        let timeout = Timespec::try_from(timeout).context("A sleep is too long")?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("Cannot wait for events"),
        }
        let mut flags = fds.iter().map(PollFd::revents);
        let port = if port.is_some() { flags.next() } else { None };
        Ok((port.unwrap_or(PollFlags::empty()), flags.next().unwrap_or(PollFlags::empty())))
    }

    fn hear_host(&mut self, flags: PollFlags) {
        let Some(port) = &mut self.port else { return };
        let mut buffer = [0; 4096];
        let Ok(length) = port.read(&mut buffer) else {
            self.port = None;
            return;
        };
        let mut chunk = &buffer[..length];
        while let Some(call) = self.decoder.next::<Call>(&mut chunk) {
            match call {
                Ok(call) => self.take(&call),
                Err(error) => self.answer(0, Response::Refused { reason: error.to_string() }),
            }
        }
        if flags.contains(PollFlags::HUP) {
            self.connected = false;
        }
    }

    fn take(&mut self, call: &Call) {
        let response = match &call.request {
            Request::Ping => Ok(Response::Pong),
            Request::Status => Ok(Response::Status(self.status())),
            Request::Reboot => self.leave(call.id, || rustix::system::reboot(RebootCommand::Restart)),
            Request::Poweroff => self.leave(call.id, || rustix::system::reboot(RebootCommand::PowerOff)),
            Request::Crash => self.leave(call.id, || std::fs::write("/proc/sysrq-trigger", "c")),
            Request::Agent { fate } => mischief::agent(&self.options.root, *fate).map(|()| Response::Begun),
            Request::Balloon { bound } => mischief::balloon(&self.options.root, *bound).map(|()| Response::Begun),
            Request::Groups => groups::trial(&self.options.program).map(Response::Grouped),
            Request::Unknown => Err(anyhow::anyhow!("This workload does not know such a request")),
            _ if self.busy.is_some() => Err(anyhow::anyhow!("The workload is busy with a check or a spike: ask again")),
            Request::Grow { bytes, bytes_per_second } => {
                let goal = self.status.goal_bytes.saturating_add(*bytes);
                self.set_goal(goal, Some(bytes_per_second.unwrap_or(DEFAULT_GROWTH)))
            }
            Request::Shrink { bytes } => {
                self.set_goal(self.status.goal_bytes.saturating_sub(*bytes), Some(DEFAULT_GROWTH))
            }
            Request::Hold => self.set_goal(self.status.held_bytes, Some(DEFAULT_GROWTH)),
            Request::Verify => match self.command(&Command::Verify) {
                Ok(()) => return self.busy = Some(Busy::Verifying { id: call.id }),
                Err(error) => Err(error),
            },
            Request::Spike { bytes, wait_ms } => match self.begin_spike(call.id, *bytes, *wait_ms) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
        };
        let refusal = |error: anyhow::Error| Response::Refused { reason: format!("{error:#}") };
        self.answer(call.id, response.unwrap_or_else(refusal));
    }

    fn set_goal(&mut self, goal: Bytes, bytes_per_second: Option<Bytes>) -> anyhow::Result<Response> {
        let page = Bytes::new(rustix::param::page_size() as u64);
        let goal_bytes = goal.align_up(page);
        self.command(&Command::Goal { bytes: goal_bytes, bytes_per_second, tell: bytes_per_second.is_none() })?;
        self.status.goal_bytes = goal_bytes;
        Ok(Response::Accepted { goal_bytes })
    }

    fn begin_spike(&mut self, id: u64, bytes: Bytes, wait_ms: Option<u64>) -> anyhow::Result<()> {
        let visible_before_bytes = visible(&sysinfo());
        let started = Instant::now();
        self.set_goal(self.status.goal_bytes.saturating_add(bytes), None)?;
        let wait = Duration::from_millis(wait_ms.unwrap_or(DEFAULT_WAIT_MS).min(MAX_WAIT_MS));
        let spiked = Spiked { visible_before_bytes, ..Spiked::default() };
        self.busy = Some(Busy::Spiking { id, started, wait, allocated: false, spiked });
        Ok(())
    }

    /// Looks whether memory arrived from the host, and ends a spike that knows
    /// all or has waited long enough.
    fn watch_spike(&mut self) {
        let Some(Busy::Spiking { id, started, wait, allocated, spiked }) = &mut self.busy else { return };
        let visible = visible(&sysinfo());
        if spiked.first_grant_ms.is_none() && visible > spiked.visible_before_bytes {
            spiked.first_grant_ms = Some(millis(started.elapsed()));
        }
        let granted = spiked.first_grant_ms.is_some();
        if *allocated && (granted || started.elapsed() >= *wait) {
            spiked.visible_after_bytes = visible;
            let (id, spiked) = (*id, *spiked);
            self.busy = None;
            self.answer(id, Response::Spiked(spiked));
        }
    }

    fn status(&self) -> Status {
        let info = sysinfo();
        let size = |units: u64| Bytes::new(units.saturating_mul(info.mem_unit.into()));
        Status {
            uptime_ms: millis(dynmem_agent::uptime()),
            visible_bytes: visible(&info),
            free_bytes: size(info.freeram),
            swap_total_bytes: size(info.totalswap),
            swap_used_bytes: size(info.totalswap.saturating_sub(info.freeswap)),
            ..self.status.clone()
        }
    }

    /// Says goodbye, then does what can't be answered any more.
    fn leave<E: std::error::Error + Send + Sync + 'static>(
        &mut self,
        id: u64,
        action: impl FnOnce() -> Result<(), E>,
    ) -> anyhow::Result<Response> {
        self.answer(id, Response::Leaving);
        if let Some(port) = &mut self.port {
            let _ = port.flush();
        }
        std::thread::sleep(GOODBYE);
        action().context("The guest's kernel refuses")?;
        Ok(Response::Leaving)
    }

    fn answer(&mut self, id: u64, response: Response) {
        // An answer that does not fit is one that nobody reads.
        if let (Some(port), Ok(line)) = (&mut self.port, encode(&Answer { id, response })) {
            port.queue(&line);
        }
    }

    /// Sends a command to the holder, starting one if there is none.
    fn command(&mut self, command: &Command) -> anyhow::Result<()> {
        if self.holder.is_none() {
            self.holder = Some(Holder::start(&self.options)?);
        }
        let line = encode(command)?;
        let holder = self.holder.as_mut().context("There is no holder")?;
        holder.input.write_all(&line).context("The memory holder does not listen: it is starved or was just killed")
    }

    fn hear_holder(&mut self) {
        let Some(holder) = &mut self.holder else { return };
        let mut buffer = [0; 4096];
        let length = match holder.output.read(&mut buffer) {
            Ok(0) => return self.lose_holder(),
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(_) => return self.lose_holder(),
        };
        let (mut chunk, mut events) = (&buffer[..length], Vec::new());
        while let Some(event) = holder.decoder.next::<Event>(&mut chunk) {
            events.extend(event);
        }
        for event in events {
            self.learn(event);
        }
    }

    fn learn(&mut self, event: Event) {
        match event {
            Event::Progress { held_bytes } => self.status.held_bytes = held_bytes,
            Event::Checked { verified: Verified { pages, broken }, complete } => {
                self.status.verified_pages = self.status.verified_pages.saturating_add(pages);
                self.status.broken = self.status.broken.saturating_add(broken);
                if complete && let Some(Busy::Verifying { id }) = self.busy {
                    self.busy = None;
                    self.answer(id, Response::Verified(Verified { pages, broken }));
                }
            }
            Event::Reached => {
                if let Some(Busy::Spiking { started, allocated, spiked, .. }) = &mut self.busy {
                    (*allocated, spiked.allocate_ms) = (true, millis(started.elapsed()));
                }
            }
            Event::Stopped { reason } => {
                self.status.goal_bytes = self.status.held_bytes;
                if matches!(self.busy, Some(Busy::Spiking { .. })) {
                    self.give_up(reason);
                }
            }
        }
    }

    /// The holder is gone, and with it what it held.
    fn lose_holder(&mut self) {
        if let Some(mut holder) = self.holder.take() {
            let _ = holder.process.kill();
            let _ = holder.process.wait();
        }
        self.status.oom_kills += 1;
        self.status.lost_bytes = self.status.lost_bytes.saturating_add(self.status.held_bytes);
        (self.status.held_bytes, self.status.goal_bytes) = (Bytes::ZERO, Bytes::ZERO);
        self.give_up("The memory holder was killed: the guest ran out of memory".to_owned());
    }

    fn give_up(&mut self, reason: String) {
        if let Some(Busy::Verifying { id } | Busy::Spiking { id, .. }) = self.busy.take() {
            self.answer(id, Response::Refused { reason });
        }
    }
}

impl Holder {
    fn start(options: &Options) -> anyhow::Result<Self> {
        let naming = || format!("Cannot start {} hold", options.program.display());
        let mut process = Program::new(&options.program)
            .arg("hold")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(naming)?;
        let input = process.stdin.take().with_context(naming)?;
        let output = process.stdout.take().with_context(naming)?;
        // A starved holder must not take the controller with it.
        rustix::io::ioctl_fionbio(&input, true).with_context(naming)?;
        rustix::io::ioctl_fionbio(&output, true).with_context(naming)?;
        Ok(Self { process, input, output, decoder: LineDecoder::new() })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn visible(info: &Sysinfo) -> Bytes {
    Bytes::new(info.totalram.saturating_mul(info.mem_unit.into()))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
