//! Commands against a daemon with canned answers: who is asked for what, what
//! is told, and with which exit code.

use std::{io::Read, process::Stdio};

use dynmem_footprint::Footprint;
use serde_json::{Value, json};

mod support;
use support::{Canned, dynmem, problem, text, vm};

/// Four VMs; `Dev-b` refuses everything.
fn daemon() -> Canned {
    Canned::new(|line, _| match line {
        "GET /v1/vms" => (200, ["web01", "Dev-b", "Dev-a", "Dev-c"].iter().map(|name| vm(name)).collect()),
        line if line.contains("/Dev-b") => problem(409, "VM Dev-b will not have it"),
        line if line.starts_with("DELETE ") => (204, Value::Null),
        line => (200, vm(line.split('/').nth(3).expect("a VM's path"))),
    })
}

#[test]
fn each_vm_gets_its_line_of_result_in_order() {
    let daemon = daemon();
    let output = daemon.run(&["memory", "set", "web01", "Dev-*", "--minimum", "128M"]);
    let settings = "dynamic on, startup 512MiB, minimum 256MiB, maximum 1GiB, buffer 20%, weight 5000, \
                    demand model working-set";
    assert_eq!(text(&output.stdout), format!("web01: {settings}\nDev-a: {settings}\nDev-c: {settings}\n"));
    assert_eq!(text(&output.stderr), "Dev-b: VM Dev-b will not have it\n");
    assert_eq!(output.status.code(), Some(1));
    let mut changes = daemon.changes();
    changes.sort();
    let expected: Vec<_> = ["Dev-a", "Dev-b", "Dev-c", "web01"]
        .map(|name| (format!("PATCH /v1/vms/{name}/memory"), r#"{"minimum":134217728}"#.to_owned()))
        .into();
    assert_eq!(changes, expected);
}

#[test]
fn a_static_vm_that_runs_is_waited_for_until_it_has_followed() {
    let followed = std::sync::atomic::AtomicU64::new(0);
    let daemon = Canned::new(move |line, _| {
        let mut web01 = vm("web01");
        web01["state"] = json!("running");
        web01["settings"]["dynamic"] = json!(false);
        let looks = followed.fetch_add(u64::from(line == "GET /v1/vms/web01"), std::sync::atomic::Ordering::Relaxed);
        web01["assigned_bytes"] = json!(if looks < 2 { 700 << 20 } else { 512 << 20 });
        (200, if line == "GET /v1/vms" { json!([web01]) } else { web01 })
    });
    let output = daemon.run(&["memory", "set", "web01", "--startup", "512M"]);
    assert!(text(&output.stdout).ends_with("; web01 holds 512MiB\n"), "{}", text(&output.stdout));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_is_wrong_with_a_guest_is_in_the_list_and_in_full_with_its_reason_and_since_when() {
    let daemon = Canned::new(|line, _| {
        let mut web01 = vm("web01");
        (web01["state"], web01["memory_status"]) = (json!("running"), json!("ok"));
        web01["troubles"] = json!([
            {"kind": "no-driver", "since_seconds": 70, "detail": "It has no balloon driver that answers: is it loaded?"},
            {"kind": "of-the-future", "since_seconds": 3_600, "detail": "It \u{1b}[2Jsings"}
        ]);
        (200, if line == "GET /v1/vms" { json!([web01]) } else { web01 })
    });
    let list = text(&daemon.run(&["vm", "list"]).stdout);
    assert!(list.contains("  ok, no-driver +1  "), "{list}");
    let full = text(&daemon.run(&["vm", "show", "web01"]).stdout);
    let troubles: Vec<_> = full.lines().filter(|line| line.starts_with("Trouble")).collect();
    assert_eq!(troubles[0], "Trouble  no-driver (for 00:01:10): It has no balloon driver that answers: is it loaded?");
    assert!(
        troubles[1].starts_with("Trouble  of-the-future (for 01:00:00): It ") && !full.contains('\u{1b}'),
        "{full}"
    );
}

#[test]
fn results_in_json_say_the_same() {
    let output = daemon().run(&["--json", "vm", "start", "Dev-?"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), "");
    let results: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let told: Vec<_> =
        results.as_array().expect("a list").iter().map(|r| (&r["name"], &r["ok"], &r["detail"])).collect();
    assert_eq!(
        told,
        [
            (&json!("Dev-a"), &json!(true), &json!("started")),
            (&json!("Dev-b"), &json!(false), &json!("VM Dev-b will not have it")),
            (&json!("Dev-c"), &json!(true), &json!("started")),
        ]
    );
    assert_eq!(results[0]["vm"]["settings"]["startup_bytes"], 536_870_912);
}

#[test]
fn every_form_says_the_same() {
    let daemon = daemon();
    let run = |words: &[&str]| text(&daemon.run(words).stdout);
    let list = run(&["vm", "list", "web01", "Dev-a", "--output", "csv"]);
    let lines: Vec<_> = list.lines().collect();
    assert!(lines[0].starts_with("name,state,assigned_bytes,demand_bytes,"), "{list}");
    assert!(lines[0].contains(",settings.dynamic,settings.startup_bytes,"), "{list}");
    assert!(lines[1].starts_with("web01,off,0,") && lines[2].starts_with("Dev-a,off,0,"), "{list}");
    assert_eq!(lines.len(), 3);
    let list = run(&["-o", "yaml", "vm", "list", "web01"]);
    assert!(list.starts_with("---\n- name: web01\n  state: \"off\"\n"), "{list}");
    assert!(list.contains("\n  settings:\n    dynamic: true\n    startup_bytes: 536870912\n"), "{list}");
    let results = run(&["vm", "start", "Dev-?", "--output", "csv"]);
    assert!(results.starts_with("name,ok,detail,vm.name,"), "{results}");
    assert!(results.contains("\nDev-b,false,VM Dev-b will not have it,,"), "{results}");
    let narrow = |form: &str| {
        let mut command = dynmem(&daemon.socket());
        text(
            &command
                .args(["vm", "list", "web01", "-o", form])
                .env("COLUMNS", "40")
                .output()
                .expect("dynmem runs")
                .stdout,
        )
    };
    assert!(!narrow("table").contains("WEIGHT") && narrow("wide").contains("WEIGHT"));
}

#[test]
fn a_form_that_makes_no_sense_is_refused_before_anything_is_asked() {
    for (words, why) in [
        (&["watch", "-o", "csv"][..], "--output csv makes no sense here: its columns are those of all rows"),
        (&["vm", "list", "--watch", "-o", "csv"], "these rows have no end"),
        (&["events", "--follow", "-o", "csv"], "Write --output json"),
        (&["vm", "console", "web01", "-o", "yaml"], "--output yaml makes no sense here: a console is what"),
        (&["completion", "bash", "-o", "wide"], "--output wide makes no sense here: a script comes, and no data"),
    ] {
        let output = dynmem("/nowhere/dynmem.sock".as_ref()).args(words).output().expect("dynmem runs");
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {told}");
        assert!(told.contains(why), "{words:?}: {told}");
    }
}

#[test]
fn one_refusal_is_the_daemons_sentence_and_nothing_else() {
    let output = daemon().run(&["vm", "start", "Dev-b"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
    assert_eq!(text(&output.stderr), "VM Dev-b will not have it\n");
}

#[test]
fn a_name_that_means_nothing_stops_everything_before_it_starts() {
    let daemon = daemon();
    for (names, sentence) in [
        (["web01", "Prod-*"], "No VM matches \"Prod-*\"\n"),
        (["mail", "Prod-*"], "No VM is named \"mail\": `dynmem vm list` shows all\nNo VM matches \"Prod-*\"\n"),
        (["web01", "wbe01"], "No VM is named \"wbe01\": did you mean \"web01\"?\n"),
    ] {
        for action in ["start", "stop", "restart", "pause", "resume", "delete"] {
            let output = daemon.run(&["vm", action, names[0], names[1]]);
            assert_eq!(output.status.code(), Some(1), "{action}");
            assert_eq!(text(&output.stderr), sentence, "{action}");
        }
    }
    assert_eq!(daemon.changes(), []);
    let output = daemon.run(&["--json", "vm", "show", "web02"]);
    let told: Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!(told, json!({"detail": "No VM is named \"web02\": did you mean \"web01\"?", "exit_code": 1}));
}

#[test]
fn a_misspelt_name_finds_the_right_one_whatever_is_asked() {
    let daemon = Canned::new(|line, _| match line {
        "GET /v1/vms" => (200, json!([vm("web01")])),
        line if line.starts_with("GET /v1/events") => (200, json!([])),
        _ => problem(404, "No VM is named \"wbe01\""),
    });
    for words in [
        &["explain", "wbe01"][..],
        &["vm", "show", "wbe01"],
        &["vm", "history", "wbe01"],
        &["vm", "console", "wbe01"],
        &["events", "--vm", "wbe01"],
        &["advice", "wbe01"],
        &["meter", "show", "wbe01"],
        &["memory", "get", "wbe01"],
        &["vm", "delete", "wbe01"],
    ] {
        let output = daemon.run(words);
        assert_eq!(text(&output.stderr), "No VM is named \"wbe01\": did you mean \"web01\"?\n", "{words:?}");
        assert_eq!(output.status.code(), Some(1), "{words:?}");
    }
}

#[test]
fn the_manual_is_written_into_a_folder() {
    let folder = Footprint::new().expect("a temporary directory");
    let pages = folder.path().join("man1");
    let output = dynmem("/nowhere/dynmem.sock".as_ref()).arg("man").arg(&pages).output().expect("dynmem runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let count = std::fs::read_dir(&pages).expect("the folder").count();
    assert_eq!(text(&output.stdout), format!("Wrote {count} pages to {}\n", pages.display()));
    let start = std::fs::read_to_string(pages.join("dynmem-vm-start.1")).expect("a page");
    assert!(start.starts_with(".ie") || start.contains(".TH dynmem-vm-start 1"), "{start}");
}

#[test]
fn every_action_asks_for_itself() {
    let daemon = daemon();
    for words in [
        vec!["vm", "start", "web01"],
        vec!["vm", "stop", "web01"],
        vec!["vm", "stop", "web01", "--force"],
        vec!["vm", "restart", "web01"],
        vec!["vm", "pause", "web01"],
        vec!["vm", "resume", "web01"],
        vec!["vm", "delete", "web01", "--yes"],
    ] {
        let output = daemon.run(&words);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", text(&output.stderr));
    }
    let seen: Vec<_> = daemon.changes().into_iter().map(|(line, body)| format!("{line} {body}")).collect();
    assert_eq!(
        seen,
        [
            "POST /v1/vms/web01/start ",
            r#"POST /v1/vms/web01/stop {"mode":"graceful","timeout_seconds":60}"#,
            r#"POST /v1/vms/web01/stop {"mode":"force","timeout_seconds":60}"#,
            "POST /v1/vms/web01/restart ",
            "POST /v1/vms/web01/pause ",
            "POST /v1/vms/web01/resume ",
            "DELETE /v1/vms/web01 ",
        ]
    );
}

#[test]
fn an_answer_that_is_not_ours_fails_with_a_sentence() {
    let daemon = Canned::new(|_, _| (200, json!({"hello": "world"})));
    let output = daemon.run(&["vm", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("gave an answer that is not understood (200)"), "{}", text(&output.stderr));
}

#[test]
fn a_reader_that_goes_away_is_no_error_and_does_not_stop_the_work() {
    let daemon = daemon();
    for words in [["vm", "list"], ["completion", "bash"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = dynmem(&daemon.socket()).args(words).stdout(writer).output().expect("dynmem runs");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{words:?}");
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    dynmem(&daemon.socket()).args(["vm", "start", "Dev-a", "Dev-c"]).stdout(writer).output().expect("dynmem runs");
    assert_eq!(daemon.changes().len(), 2);
}

#[test]
fn followed_events_are_shown_once_and_as_they_come() {
    let event = |id: u64| json!({"id": id, "time_unix_ms": 0, "kind": "grew", "message": format!("Event {id}")});
    let daemon = Canned::new(move |line, _| match line {
        "GET /v1/events?limit=2" => (200, json!([event(4), event(5)])),
        "GET /v1/events?after=5&limit=1000" => (200, json!([event(6)])),
        _ => (200, json!([])),
    });
    let mut child = dynmem(&daemon.socket())
        .args(["--json", "events", "--follow", "--limit", "2"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("dynmem runs");
    let mut stdout = child.stdout.take().expect("piped");
    let mut lines = String::new();
    while lines.matches('\n').count() < 3 {
        let mut byte = [0];
        stdout.read_exact(&mut byte).expect("three lines");
        lines.push(char::from(byte[0]));
    }
    let ids: Vec<_> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["id"].clone()).collect();
    assert_eq!(ids, [4, 5, 6]);
    interrupt(&child);
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}

#[test]
fn watching_without_a_terminal_repeats_blocks_and_ends_by_count() {
    let daemon = Canned::new(|line, _| match line {
        "GET /v1/host" => (200, json!({"memory_bytes": 1_u64 << 30})),
        _ => (200, json!([vm("web01")])),
    });
    let output = daemon.run(&["watch", "--interval", "0.1", "--count", "2"]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(told.matches("host 1 GiB").count(), 2, "{told}");
    assert_eq!(told.matches("\nweb01  off").count(), 2, "{told}");
    assert!(!told.contains('\u{1b}'), "{told:?}");

    let output = daemon.run(&["watch", "--interval", "0.1", "--count", "2", "--json"]);
    let told = text(&output.stdout);
    let frames: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[1]["vms"][0]["name"], "web01");
}

#[test]
fn a_dry_run_asks_for_one_and_says_what_would_come_of_it() {
    let daemon = Canned::new(|line, _| match line {
        "GET /v1/vms" => (200, json!([vm("db01"), vm("web01")])),
        "POST /v1/vms/db01/start?dry_run=true" => (
            200,
            json!({"accepted": true, "available_bytes": 64 << 20, "available_after_bytes": 0, "waits": true,
                "reclaimed_bytes": 448 << 20, "vms": [
                    {"name": "db01", "now_bytes": 0, "then_bytes": 512 << 20},
                    {"name": "web01", "now_bytes": 1_u64 << 30, "then_bytes": 576 << 20, "memory_status": "ok"}]}),
        ),
        "POST /v1/vms/web01/start?dry_run=true" => (
            200,
            json!({"accepted": false, "refusal": "Can't start web01: it is running", "available_bytes": 0,
                "available_after_bytes": 0, "waits": false, "reclaimed_bytes": 0, "vms": []}),
        ),
        _ => problem(404, "No such thing"),
    });
    let output = daemon.run(&["vm", "start", "db01", "--dry-run"]);
    assert_eq!(
        text(&output.stdout),
        "db01: would be started once others have given 448 MiB back\nMemory that can be lent: 64 MiB now, 0 then\n\n\
         NAME     NOW     THEN  STATUS\ndb01       0  512 MiB\nweb01  1 GiB  576 MiB  ok\n"
    );
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    // Of several, each by itself; one that would be refused is a failure.
    let output = daemon.run(&["vm", "start", "*", "--dry-run"]);
    assert!(text(&output.stdout).ends_with("\n\nweb01: would be refused: Can't start web01: it is running\n"));
    assert!(text(&output.stderr).contains("Each by itself"));
    assert_eq!(output.status.code(), Some(1));
    let output = daemon.run(&["memory", "set", "web01", "--minimum", "1G", "--dry-run", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told, json!([{"name": "web01", "ok": false, "detail": "No such thing"}]));
    assert!(daemon.changes().iter().all(|(line, _)| line.ends_with("?dry_run=true")), "nothing else was asked");
}

fn interrupt(child: &std::process::Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
}
