//! What people type and read, with the real daemon and imitated machines: each
//! transcript has a daemon of its own, with 4 GiB of which 512 MiB are the
//! host's. After a wanted change of words:
//! `TRYCMD=overwrite cargo test -p dynmem-cli --test daemon`, and read the
//! difference.

use std::{
    env,
    ffi::OsStr,
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    thread,
};

use dynmem_footprint::Footprint;
use rustix::process::{Pid, Signal, kill_process};

/// A daemon that ends, and whose folder goes, with the test.
struct Daemon {
    child: Child,
    directory: Footprint,
    /// What it said until it had started.
    said: String,
}

impl Daemon {
    fn start() -> Self {
        Self::start_in(Footprint::new().expect("a temporary directory"), "")
    }

    /// With more settings.
    fn start_in(directory: Footprint, more: &str) -> Self {
        let settings = format!(
            "state_dir = \"{0}/state\"\nsocket = \"{0}/api.sock\"\nbackend = \"fake\"\naccelerator = \"tcg\"\n\
             [host]\nmemory = \"4GB\"\nreserve = \"512MB\"\n{more}",
            directory.path().display()
        );
        let file = directory.path().join("dynmemd.toml");
        fs::write(&file, settings).expect("written");
        let mut child = Command::new(dynmemd())
            .arg("--config")
            .arg(&file)
            .env_remove("DYNMEM_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .expect("dynmemd runs");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        let mut lines = log.lines().map_while(Result::ok);
        let mut said = String::new();
        while !said.contains(" started: ") {
            let line = lines.next().unwrap_or_else(|| panic!("dynmemd ended; it said: {said}"));
            said = format!("{said}{line}\n");
        }
        thread::spawn(move || lines.for_each(drop)); // a full pipe would stop it
        Self { child, directory, said }
    }

    fn transcript(&self, name: &str) {
        trycmd::TestCases::new()
            .env("DYNMEM_SOCKET", self.directory.path().join("api.sock").to_string_lossy())
            .env("LANG", "C.UTF-8")
            .case(format!("tests/daemon/{name}.trycmd"));
    }
}

impl Daemon {
    /// Waits until so many guests run and report; the test runner's own limit
    /// ends a wait for what never comes.
    fn await_running(&self, wanted: usize) {
        let mut watch = Command::new(env!("CARGO_BIN_EXE_dynmem"))
            .args(["--json", "watch", "--interval", "0.1"])
            .env("DYNMEM_SOCKET", self.directory.path().join("api.sock"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("dynmem runs");
        let frames = BufReader::new(watch.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let running = |frame: &String| {
            let frame: serde_json::Value = serde_json::from_str(frame).expect("JSON");
            let vms = frame["vms"].as_array().expect("a list");
            vms.iter().filter(|vm| vm["state"] == "running" && vm["integration"] == "agent").count()
        };
        let came = frames.map(|frame| running(&frame)).any(|count| count == wanted);
        let _ = watch.kill(); // it may have ended by itself, and then it did not come
        let _ = watch.wait();
        assert!(came, "{wanted} guests never ran");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM); // it may have ended by itself
        let ended = self.child.wait().expect("our child");
        assert!(ended.success() || thread::panicking(), "dynmemd ended with {ended}");
    }
}

/// The daemon of this source, built like `dynmem`.
fn dynmemd() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let path = Path::new(env!("CARGO_BIN_EXE_dynmem")).with_file_name("dynmemd");
        let profile: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "dynmemd"]).args(profile);
        // What says which package is tested would make ring's build script run again, each time.
        for (name, _) in env::vars_os().filter(|(name, _)| is_about_the_package(name)) {
            cargo.env_remove(name);
        }
        let built = cargo.status();
        assert!(built.expect("cargo runs").success(), "dynmemd is not built");
        path
    })
}

fn is_about_the_package(variable: &OsStr) -> bool {
    variable.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
}

#[test]
fn vms_are_defined_and_changed_and_forgotten() {
    Daemon::start().transcript("definitions");
}

#[test]
fn vms_start_and_run_and_stop() {
    let daemon = Daemon::start();
    daemon.transcript("start");
    daemon.await_running(2);
    daemon.transcript("running");
}

#[test]
fn lines_of_hyper_vs_cmdlets_work_as_they_are() {
    Daemon::start().transcript("hyperv");
}

/// A file that only we may read.
fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("ours");
}

fn dynmem(words: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dynmem"));
    for variable in ["DYNMEM_SOCKET", "DYNMEM_URL", "DYNMEM_TOKEN", "DYNMEM_TOKEN_FILE", "DYNMEM_CA"] {
        command.env_remove(variable);
    }
    command.args(words).envs(environment.iter().copied()).output().expect("dynmem runs")
}

/// Its exit code, and what it said.
fn outcome(output: &Output) -> (Option<i32>, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn a_daemon_elsewhere_is_asked_by_its_url_with_a_token() {
    let directory = Footprint::new().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    fs::write(path("tls.pem"), made.cert.pem()).expect("written");
    write_secret(Path::new(&path("tls.key")), &made.signing_key.serialize_pem());
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    fs::write(path("other.pem"), other.cert.pem()).expect("written");
    let token = dynmem(&["--json", "token", "new", "wall", "--role", "read"], &[]);
    let token: serde_json::Value = serde_json::from_slice(&token.stdout).expect("JSON");
    let word = |key: &str| token[key].as_str().expect("a word").to_owned();
    assert_eq!((word("name"), word("role")), ("wall".to_owned(), "read".to_owned()));
    write_secret(Path::new(&path("tokens")), &word("line"));
    let (ca, other, secret_file) = (path("tls.pem"), path("other.pem"), path("secret"));
    write_secret(Path::new(&secret_file), &format!("{}\n", word("secret")));
    let settings = format!(
        "[tcp]\nlisten = '127.0.0.1:0'\ncertificate = '{ca}'\nkey = '{}'\ntokens = '{}'\n",
        path("tls.key"),
        path("tokens")
    );

    let daemon = Daemon::start_in(directory, &settings);
    let (_, address) = daemon.said.split_once("https://").expect("it says where it listens");
    let url = format!("https://{}", address.split_whitespace().next().expect("an address"));
    let file = [("DYNMEM_TOKEN_FILE", secret_file.as_str())];
    let (code, said) = outcome(&dynmem(&["--url", &url, "--ca", &ca, "vm", "list"], &file));
    assert_eq!((code, said.contains("No VM is defined")), (Some(0), true), "{said}");
    let secret = word("secret");
    let all = [("DYNMEM_URL", url.as_str()), ("DYNMEM_CA", &ca), ("DYNMEM_TOKEN", &secret)];
    let (code, said) = outcome(&dynmem(&["host"], &all));
    assert_eq!(code, Some(0), "{said}");

    for (words, environment, code, says) in [
        (&["vm", "create", "web01"][..], &all[..], 1, "takes a token of role operate, and wall has role read"),
        (&["vm", "console", "web01"], &all, 1, "is a socket on the daemon's machine"),
        (&["vm", "list"], &all[..2], 1, "put it into a file and name that in DYNMEM_TOKEN_FILE"),
        (&["--url", &url, "--ca", &other, "vm", "list"], &file, 3, "is not trusted"),
        (&["--url", &url.replace("https", "http"), "vm", "list"], &file, 1, "without TLS, the token would go"),
        (&["--socket", "/nowhere/s", "vm", "list"], &all, 3, "No daemon listens on /nowhere/s"),
    ] {
        let (ended, said) = outcome(&dynmem(words, environment));
        assert!(ended == Some(code) && said.contains(says), "{words:?}: {ended:?} {said}");
        assert!(!said.contains(&secret), "{said}");
    }
}
