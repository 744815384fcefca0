//! The screen as people see it, and keys as they press them.

use dynmem_api::{HostView, Live, LiveSnapshot, VmView};
use dynmem_units::Bytes;
use ratatui::{
    Terminal,
    backend::TestBackend,
    buffer::Cell,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    widgets::Paragraph,
};
use serde_json::json;

use super::{
    link::News,
    model::{Page, TRAIL_MAX, Top, Wish},
    screen::{Ink, lines},
};

fn vm(name: &str, assigned: u64, demand: u64, status: &str) -> VmView {
    let mib = |mib: u64| Bytes::from_mib(mib).get();
    let view = json!({
        "name": name, "state": "running", "assigned_bytes": mib(assigned), "demand_bytes": mib(demand),
        "target_bytes": mib(demand * 12 / 10), "pressure_percent": demand * 100 / assigned, "memory_status": status,
        "vcpus": 1, "integration": "agent", "driver": {"state": "ok"},
        "settings": {"dynamic": true, "startup_bytes": mib(512), "minimum_bytes": mib(256),
            "maximum_bytes": mib(4096), "buffer_percent": 20, "weight": 5000, "demand_model": "working-set"},
    });
    serde_json::from_value(view).expect("a view")
}

fn host() -> HostView {
    HostView {
        memory_bytes: Bytes::from_mib(8192),
        reserve_bytes: Bytes::from_mib(1024),
        charged_bytes: Bytes::from_mib(4096),
        available_bytes: Bytes::from_mib(3072),
        vms_running: 3,
        vms_total: 4,
        ..HostView::default()
    }
}

fn told(vms: Vec<VmView>) -> News {
    News::Told(Live::Snapshot(Box::new(LiveSnapshot { host: host(), vms })))
}

/// Three VMs, and one that is off.
fn top() -> Top {
    let mut off = vm("old", 1, 0, "ok");
    (off.state, off.memory_status, off.assigned_bytes) = (dynmem_api::VmState::Off, None, Bytes::ZERO);
    let mut top = Top::default();
    for demand in [200, 300, 400] {
        let vms = vec![vm("db", 1024, demand, "ok"), vm("web01", 512, 700, "low"), vm("web02", 600, 580, "warning")];
        top.hear(told(vms.into_iter().chain([off.clone()]).collect()));
    }
    top
}

fn press(top: &mut Top, keys: &str) -> Wish {
    let code = |key| match key {
        '⏎' => KeyCode::Enter,
        '⎋' => KeyCode::Esc,
        '↓' => KeyCode::Down,
        '↑' => KeyCode::Up,
        key => KeyCode::Char(key),
    };
    let mut press = |key| top.press(KeyEvent::new(code(key), KeyModifiers::NONE));
    keys.chars().map(&mut press).last().unwrap_or(Wish::Nothing)
}

/// What a terminal of this size shows, line by line, without trailing blanks.
fn shown(top: &Top, width: u16, height: u16, ink: Ink) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it is in memory");
    terminal
        .draw(|frame| frame.render_widget(Paragraph::new(lines(top, ink, width.into(), height.into())), frame.area()))
        .expect("it is in memory");
    let cells = terminal.backend().buffer().content();
    let line = |cells: &[Cell]| cells.iter().map(Cell::symbol).collect::<String>();
    cells.chunks(width.into()).map(|cells| line(cells).trim_end().to_owned()).collect()
}

const PLAIN: Ink = Ink { is_coloured: false };

/// The names in the list, in their order.
fn names(top: &Top) -> Vec<&str> {
    top.rows().into_iter().map(|vm| vm.name.as_str()).collect()
}

#[test]
fn the_list_fits_80_by_24_and_reads_without_colour() {
    let screen = shown(&top(), 80, 24, PLAIN);
    let expected = [
        "Host 8 GiB: 3 GiB free, 4 GiB to 3 of 4 VMs, pressure 0%, 1 GiB kept for itself",
        "░░░░░░░░░░████████████████████████████████████████······························",
        "",
        "NAME▾ STATE    STATUS      ASSIGNED    DEMAND  MEMORY                TREND",
        "db    running  ok             1 GiB   400 MiB  ████████▒▒▒▒▒▒▒▒▒▒▒▒▒        ▄▆█",
        "old   off                         –         –",
        "web01 running  !! low       512 MiB   700 MiB  ███████████!!!  |            ███",
        "web02 running  ! warning    600 MiB   580 MiB  ████████████ |               ███",
    ];
    assert_eq!(screen[..8], expected, "{screen:#?}");
    assert_eq!(screen[23], "↑↓ select  Enter details  / filter  n a d p s sort  ? help  q quit");
    let coloured = shown(&top(), 80, 24, Ink { is_coloured: true });
    assert_eq!(coloured, screen, "colour adds nothing that is not written");
}

#[test]
fn every_screen_fits_every_terminal() {
    let mut top = top();
    for keys in ["", "⏎", "⎋?", "⎋/w"] {
        press(&mut top, keys);
        for (width, height) in [(40, 8), (60, 10), (200, 60), (500, 12)] {
            let screen = shown(&top, width, height, PLAIN);
            let host =
                if width < 80 { "Host 8 GiB: 3 GiB free" } else { "Host 8 GiB: 3 GiB free, 4 GiB to 3 of 4 VMs, p" };
            assert!(screen[0].starts_with(host), "{screen:#?}");
            assert!(!screen[usize::from(height) - 1].is_empty(), "keys are told: {screen:#?}");
        }
        assert_eq!(shown(&top, 39, 24, PLAIN)[0], "Too small: 39x24, needs 40x8");
        assert_eq!(shown(&top, 80, 7, PLAIN)[0], "Too small: 80x7, needs 40x8");
        shown(&top, 1, 1, PLAIN);
    }
}

#[test]
fn keys_sort_and_sort_the_other_way_round() {
    let mut top = top();
    let mut sorted = |keys| {
        press(&mut top, keys);
        names(&top).join(" ")
    };
    assert_eq!(sorted("a"), "db web02 web01 old");
    assert_eq!(sorted("a"), "old web01 web02 db");
    assert_eq!(sorted("d"), "web01 web02 db old");
    assert_eq!(sorted("s"), "web01 web02 db old");
    assert_eq!(sorted("p"), "web01 web02 db old");
    assert_eq!(sorted("n"), "db old web01 web02");
    assert_eq!(sorted("n"), "web02 web01 old db");
}

#[test]
fn a_filter_is_typed_kept_and_dropped() {
    let mut top = top();
    press(&mut top, "/WEB");
    assert_eq!(names(&top), ["web01", "web02"], "while it is typed, in either case");
    assert!(shown(&top, 80, 24, PLAIN)[23].starts_with("Filter: web_"));
    assert_eq!(press(&mut top, "q"), Wish::Nothing, "a letter like any other");
    assert_eq!(names(&top), [""; 0]);
    assert_eq!(shown(&top, 80, 24, PLAIN)[4], "No VM passes the filter");
    assert_eq!(press(&mut top, "⎋"), Wish::Nothing);
    press(&mut top, "/01⏎");
    assert_eq!((names(&top), top.is_typing), (vec!["web01"], false));
    assert_eq!(press(&mut top, "⎋"), Wish::Nothing, "it drops the filter first");
    assert_eq!(names(&top).len(), 4);
    assert_eq!(press(&mut top, "⎋"), Wish::Quit);
}

#[test]
fn the_selected_vm_stays_selected_while_others_come_and_go() {
    let mut top = top();
    press(&mut top, "↓↓");
    let selected = |top: &Top| top.vm().map(|vm| vm.name.clone());
    assert_eq!(selected(&top).as_deref(), Some("web01"));
    top.hear(told(vec![vm("aaa", 512, 1, "ok"), vm("web01", 512, 1, "ok"), vm("zzz", 512, 1, "ok")]));
    assert_eq!(selected(&top).as_deref(), Some("web01"));
    press(&mut top, "⏎");
    assert_eq!((top.page, top.take_question().as_deref()), (Page::Details, Some("web01")));
    assert_eq!(top.take_question(), None, "once");
    top.hear(told(vec![vm("aaa", 512, 1, "ok"), vm("zzz", 512, 1, "ok")]));
    assert_eq!((top.page, selected(&top).as_deref()), (Page::List, Some("zzz")), "what is gone has no details");
    press(&mut top, "↓↓↓↑");
    assert_eq!(selected(&top).as_deref(), Some("aaa"));
    top.hear(told(Vec::new()));
    assert_eq!((selected(&top), press(&mut top, "↓⏎")), (None, Wish::Nothing));
    assert_eq!(shown(&top, 80, 24, PLAIN)[4], "No VM is defined");
}

#[test]
fn details_tell_why_and_what_happened() {
    let mut top = top();
    let event = json!({"id": 1, "time_unix_ms": 0, "vm": "web01", "kind": "grew", "message": "web01 grew\u{1b}[2J"});
    top.hear(News::Told(Live::Event(serde_json::from_value(event).expect("an event"))));
    press(&mut top, "↓↓⏎");
    let explanation = json!({
        "name": "web01", "sentence": "It waits for db to give back 188 MiB", "why": "waits-for-others",
        "assigned_bytes": 0, "promised_bytes": 0, "demand_bytes": 0, "wanted_bytes": 0, "target_bytes": 0,
        "due_bytes": 0, "minimum_bytes": 0, "maximum_bytes": 0, "weight": 5000, "sharers_total": 0,
        "owed_bytes": 0, "available_bytes": 0, "lendable_bytes": 0, "remedies": ["Raise its weight"],
    });
    top.explanation = Some(serde_json::from_value(explanation).expect("an explanation"));
    let screen = shown(&top, 80, 24, PLAIN);
    for line in [
        "web01  running",
        "!! low",
        "Assigned  512 MiB      Demand   700 MiB      Target  840 MiB",
        "Minimum   256 MiB      Startup  512 MiB      Maximum 4 GiB",
        "It waits for db to give back 188 MiB",
        "- Raise its weight",
        "web01 grew\u{fffd}[2J",
    ] {
        assert!(screen.iter().any(|shown| shown == line), "{line:?} is missing: {screen:#?}");
    }
    press(&mut top, "↓");
    assert_eq!(top.explanation, None, "that was another VM's");
}

#[test]
fn a_lost_connection_is_said_until_it_is_back() {
    let mut top = top();
    top.hear(News::Lost("No daemon listens on /run/x".to_owned()));
    assert_eq!(shown(&top, 80, 24, PLAIN)[2], "! Connection lost, trying again: No daemon listens on /run/x");
    assert_eq!(names(&top).len(), 4, "what was known last is shown on");
    top.hear(told(Vec::new()));
    assert_eq!(shown(&top, 80, 24, PLAIN)[2], "");
    let other = Top { other_version: Some("9.9.9".to_owned()), ..Top::default() };
    assert!(shown(&other, 80, 24, PLAIN)[2].starts_with("The daemon is 9.9.9, this is "));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut top = top();
    for _ in 0..2 * TRAIL_MAX {
        top.hear(told(vec![vm("db", 512, 100, "ok")]));
    }
    assert_eq!(top.trails.keys().collect::<Vec<_>>(), ["db"]);
    assert_eq!(top.trails["db"].len(), TRAIL_MAX);
    press(&mut top, "/");
    press(&mut top, &"x".repeat(1000));
    assert_eq!(top.filter.len(), 64);
}

#[test]
fn control_c_quits_wherever_one_is() {
    for keys in ["", "⏎", "?", "/x"] {
        let mut top = top();
        press(&mut top, keys);
        assert_eq!(top.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Wish::Quit, "{keys}");
    }
}
