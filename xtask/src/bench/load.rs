//! A thousand guests on one daemon: what their reports cost at rest, and how
//! fast the list of them is told to many who ask.
//!
//! ```text
//!  imitated guests (real sockets, QMP, agent) ──report a second──▶ daemon ◀──GET /v1/vms── we
//!                                                                     └──GET /v1/live──▶ we
//! ```
//! The guests live in the daemon's process, in a thread of their own
//! (`imitations`), whose processor time is taken off; the daemon's part of each
//! conversation, with its system calls, is in. Their memory can't be told
//! apart: the resident size is an upper bound.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use dynmem_api::{Client, ClientError, EventsQuery, MAX_EVENTS, VmState};
use dynmem_units::Bytes;
use dynmem_vm_tests::{Binaries, Guest, Lab, LabOptions};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    process::Command,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::idle::{cpu_ticks, resident_kib};
use crate::{build, report::Metric};

const GOAL_P99_MS: f64 = 5.0;
const GOAL_CPU_PERCENT: f64 = 15.0;
const GOAL_RSS_MIB: f64 = 150.0;
const GOAL_CLI_MS: f64 = 15.0;
/// So often the command line is started.
const CLI_RUNS: usize = 50;
/// Starts under way at a time.
const STARTS_AT_ONCE: usize = 32;
const REQUESTS_A_SECOND: u32 = 200;
const CONNECTIONS: u32 = 20;
/// Live streams that are read meanwhile, each told once a second.
const STREAMS: u32 = 8;
/// The thread of the imitated guests.
const IMITATIONS: &str = "imitations";
const PATIENCE: Duration = Duration::from_mins(5);

/// How much of it.
#[derive(Clone, Copy)]
struct Size {
    guests: u64,
    /// Until boots, first reports and first decisions are over.
    settle: Duration,
    /// At rest, and under requests.
    measure: Duration,
}

const FULL: Size = Size { guests: 1000, settle: Duration::from_secs(20), measure: Duration::from_mins(1) };
const QUICK: Size = Size { guests: 20, settle: Duration::from_secs(2), measure: Duration::from_secs(3) };

/// What was measured.
struct Figures {
    cpu_percent: f64,
    rss_mib: f64,
    p99_ms: f64,
    requests: u64,
    events_lost: u64,
    cli_start_ms: f64,
}

pub(super) fn run(quick: bool) -> Result<Vec<Metric>> {
    let size = if quick { QUICK } else { FULL };
    let binaries = build::measured(quick)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(measure(binaries, size))?;
    let metric = |name, value, unit| {
        Metric::new(name, value, unit).with("guests", size.guests).with("seconds", size.measure.as_secs())
    };
    #[expect(clippy::cast_precision_loss, reason = "few events are lost")]
    let events_lost = figures.events_lost as f64;
    Ok(vec![
        metric("cpu_percent", figures.cpu_percent, "% of a core").against_goal(GOAL_CPU_PERCENT),
        metric("rss_mib", figures.rss_mib, "MiB").against_goal(GOAL_RSS_MIB),
        metric("api_list_p99_ms", figures.p99_ms, "ms")
            .against_goal(GOAL_P99_MS)
            .with("requests", figures.requests)
            .with("streams", STREAMS),
        metric("events_lost", events_lost, ""),
        metric("cli_start_ms", figures.cli_start_ms, "ms").against_goal(GOAL_CLI_MS).with("runs", CLI_RUNS),
    ])
}

async fn measure(binaries: Binaries, size: Size) -> Result<Figures> {
    let pool = Bytes::from_mib(size.guests * 1024);
    let dynmem = binaries.dynmem()?;
    let lab = Lab::start(LabOptions { backend: "fake", ..LabOptions::with_pool(pool, binaries) }).await?;
    let cli_start_ms = start_cli(&dynmem, &lab.socket()).await?;
    start_all(&lab, size.guests).await?;
    sleep(size.settle).await;
    let pid = lab.daemon_pid().context("The daemon has ended")?;
    let (before, began) = (own_ticks(pid)?, Instant::now());
    sleep(size.measure).await;
    let (ticks, elapsed) = (own_ticks(pid)?.saturating_sub(before), began.elapsed());
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        streams.spawn(look_on(lab.socket()));
    }
    let mut took = ask_often(&lab.socket(), size.measure).await?;
    if let Some(ended) = streams.try_join_next() {
        ended??;
    }
    streams.shutdown().await;
    let rss_mib = resident_kib(pid)? / 1024.0;
    ensure_all_run(&lab, size.guests).await?;
    let events_lost = events_lost(&lab).await?;
    lab.finish().await?;
    took.sort_unstable();
    let p99 = took.get(took.len() * 99 / 100).context("Nothing was answered")?;
    #[expect(clippy::cast_precision_loss, reason = "ticks of a minute are few")]
    let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
    Ok(Figures {
        cpu_percent: seconds / elapsed.as_secs_f64() * 100.0,
        rss_mib,
        p99_ms: p99.as_secs_f64() * 1000.0,
        requests: took.len() as u64,
        events_lost,
        cli_start_ms,
    })
}

/// How long `dynmem host` takes, in the middle of many.
async fn start_cli(dynmem: &Path, socket: &Path) -> Result<f64> {
    let mut took = Vec::with_capacity(CLI_RUNS);
    for _ in 0..CLI_RUNS {
        let mut command = Command::new(dynmem);
        command.arg("--socket").arg(socket).arg("host").stdout(Stdio::null());
        let began = Instant::now();
        let status = command.status().await.with_context(|| format!("{} can't be run", dynmem.display()))?;
        took.push(began.elapsed());
        ensure!(status.success(), "dynmem host ended with {status}");
    }
    took.sort_unstable();
    Ok(took.get(CLI_RUNS / 2).context("It was run")?.as_secs_f64() * 1000.0)
}

/// Defines and starts all guests, and waits until each has reported.
async fn start_all(lab: &Lab, guests: u64) -> Result<()> {
    let mut starts = JoinSet::new();
    for number in 0..guests {
        let name = format!("guest{number:04}");
        lab.define(&Guest::new(&name, 512, 256, 4096), None).await?;
        if starts.len() >= STARTS_AT_ONCE {
            starts.join_next().await.context("There are some")???;
        }
        starts.spawn(start(lab.client().clone(), name));
    }
    while let Some(started) = starts.join_next().await {
        started??;
    }
    let all_report = async {
        while ensure_all_run(lab, guests).await.is_err() {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(PATIENCE, all_report).await.context("Not all guests came up")
}

/// What the real host has available bounds what is lent between two readings of
/// it, also to guests that are imitated and use none of that: they wait for the
/// next one.
async fn start(client: Client, name: String) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        match client.start(&name).await {
            Ok(_) => return Ok(()),
            Err(ClientError::Refused(_)) if Instant::now() < until => sleep(Duration::from_millis(500)).await,
            Err(error) => return Err(error).with_context(|| format!("{name} does not start")),
        }
    }
}

async fn ensure_all_run(lab: &Lab, guests: u64) -> Result<()> {
    let vms = lab.client().vms().await?;
    let running = vms.iter().filter(|vm| vm.state == VmState::Running && vm.pressure_percent.is_some()).count() as u64;
    ensure!(running == guests, "Only {running} of {guests} guests run and report");
    Ok(())
}

/// Processor time of the daemon without the guests that it imitates.
fn own_ticks(pid: u32) -> Result<u64> {
    let all = cpu_ticks(&Path::new("/proc").join(pid.to_string()))?;
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("The daemon has ended")?;
    let is_imitations =
        |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == IMITATIONS);
    let imitations = tasks.flatten().map(|task| task.path()).find(is_imitations);
    let imitations = imitations.context("The daemon has no thread for the guests that it imitates")?;
    Ok(all.saturating_sub(cpu_ticks(&imitations)?))
}

/// How long each answer took, seen from when it was to be asked for: whoever
/// waits for the one before waits for this one, too.
async fn ask_often(socket: &Path, length: Duration) -> Result<Vec<Duration>> {
    let mut asking = JoinSet::new();
    let every = Duration::from_secs(1) * CONNECTIONS / REQUESTS_A_SECOND;
    for number in 0..CONNECTIONS {
        let stream = UnixStream::connect(socket).await?;
        asking.spawn(async move {
            sleep(every * number / CONNECTIONS).await;
            ask(BufReader::new(stream), every, length).await
        });
    }
    let mut took = Vec::new();
    while let Some(some) = asking.join_next().await {
        took.extend(some??);
    }
    Ok(took)
}

/// Reads a live stream and throws away what it says, until nobody wants that any
/// more: an end of it is an error.
async fn look_on(socket: PathBuf) -> Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /v1/live HTTP/1.1\r\nhost: dynmem\r\n\r\n").await?;
    let mut chunk = vec![0; 64 << 10];
    while stream.read(&mut chunk).await? > 0 {}
    bail!("A live stream has ended")
}

async fn ask(mut stream: BufReader<UnixStream>, every: Duration, length: Duration) -> Result<Vec<Duration>> {
    let mut beat = interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < length {
        let due = beat.tick().await;
        stream.get_mut().write_all(b"GET /v1/vms HTTP/1.1\r\nhost: dynmem\r\n\r\n").await?;
        read_answer(&mut stream).await?;
        took.push(due.elapsed());
    }
    Ok(took)
}

/// Reads an answer to its end, and does not look into it: what it costs to
/// understand it is the reader's.
async fn read_answer(stream: &mut BufReader<UnixStream>) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
        ensure!(head.len() < 16 << 10, "The answer's head does not end");
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200 "), "The list was refused: {head}");
    let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length:")) else {
        bail!("The answer has no length: {head}");
    };
    let mut rest: usize = length.trim().parse().context("The answer's length is no number")?;
    let mut chunk = vec![0; 64 << 10];
    while rest > 0 {
        let wanted = rest.min(chunk.len());
        let count = stream.read(&mut chunk[..wanted]).await?;
        ensure!(count > 0, "The answer ended early");
        rest -= count;
    }
    Ok(())
}

async fn events_lost(lab: &Lab) -> Result<u64> {
    let (mut lost, mut after) = (0, 0);
    loop {
        let query = EventsQuery { after: Some(after), limit: Some(MAX_EVENTS), vm: None };
        let events = lab.client().events(&query).await?;
        let Some(newest) = events.last() else { return Ok(lost) };
        after = newest.id;
        let of = |event: &dynmem_api::EventView| event.numbers.get("lost_events").copied().unwrap_or_default();
        lost += events.iter().map(of).sum::<i64>().unsigned_abs();
    }
}
