//! Each plot is written once and searched for what a reader must find.

use std::fs;

use super::*;

/// The picture that `draw` writes.
fn picture(draw: impl FnOnce(&std::path::Path) -> anyhow::Result<()>) -> String {
    let folder = std::env::var_os("PLOTS").map_or_else(std::env::temp_dir, Into::into);
    let name = std::thread::current().name().unwrap_or("plot").rsplit("::").next().unwrap_or("plot").to_owned();
    let path = folder.join(format!("{name}-{}.svg", std::process::id()));
    draw(&path).expect("drawn");
    let svg = fs::read_to_string(&path).expect("written");
    if std::env::var_os("PLOTS").is_none() {
        fs::remove_file(path).expect("just written");
    }
    svg
}

fn panel(title: &str, seed: u32) -> Panel {
    let need = move |s: u32| 1024 + u64::from((s * (seed + 3)) % 977) * u64::from(s / 600 % 3);
    let needed = (0..3600).map(|s| (u64::from(s) * 1000, Bytes::from_mib(need(s))));
    let assigned = (0..3600).map(|s| (u64::from(s) * 1000, Bytes::from_mib(need(s / 60 * 60) + 300)));
    let other = (0..3600u32).map(|s| (u64::from(s) * 1000, Bytes::from_mib(1200 + u64::from(s) / 3)));
    let most = (0..3600).step_by(60).map(|s| (s * 1000, Bytes::from_mib(4096)));
    Panel {
        title: title.to_owned(),
        series: vec![
            Series::memory("needed", Style::Area, needed),
            Series::memory("dynmem", Style::Line, assigned),
            Series::memory("MOM", Style::Line, other),
            Series::memory("maximum", Style::Dashed, most),
        ],
    }
}

#[test]
fn each_vm_has_its_panel_and_each_series_its_colour() {
    let panels = [panel("web", 1), panel("<db & co>", 2)];
    let svg = picture(|path| time_plot(path, "Two VMs", &panels));
    for text in ["Two VMs", "GiB over minutes", "web", "&lt;db &amp; co&gt;", "needed", "dynmem", "MOM", "maximum"] {
        assert!(svg.contains(text), "{text:?} is missing");
    }
    assert_eq!(svg.matches("<polygon").count(), 2, "an area for each");
    for color in ["#0072B2", "#D55E00"] {
        assert!(svg.matches(color).count() == 3, "{color} in the legend and in each panel");
    }
}

#[test]
fn a_page_shows_twelve_panels_and_says_that_there_are_more() {
    let panels: Vec<Panel> = (0..20).map(|number| panel(&format!("vm{number}"), number)).collect();
    let svg = picture(|path| time_plot(path, "Many VMs", &panels));
    assert!(svg.contains("12 of 20 VMs"));
    assert_eq!(svg.matches("<polygon").count(), 12);
}

#[test]
fn nothing_to_show_is_an_empty_page_and_no_panic() {
    let empty = Panel { title: "off".to_owned(), series: vec![Series::memory("needed", Style::Area, [])] };
    assert!(picture(|path| time_plot(path, "Nothing", &[])).contains("Nothing"));
    assert!(picture(|path| time_plot(path, "Empty", &[empty])).contains("off"));
}

#[test]
fn a_curve_goes_through_powers_of_ten() {
    let curve = |label: &str, factor: f64| Series {
        label: label.to_owned(),
        style: Style::Line,
        points: [10.0, 100.0, 1000.0, 10_000.0].map(|n| (n, n * factor)).into(),
    };
    let goal = Series { label: "goal".to_owned(), style: Style::Dashed, points: vec![(1000.0, 0.2), (10_000.0, 2.0)] };
    let curves = [curve("calm", 2e-5), curve("shortage", 9e-5), goal];
    let axis = Axis { x: "VMs", y: "milliseconds" };
    let svg = picture(|path| curve_plot(path, "One decision", &axis, &curves));
    for text in ["One decision", "milliseconds over VMs", "calm", "shortage", "goal", "10000", "0.001"] {
        assert!(svg.contains(text), "{text:?} is missing");
    }
    assert_eq!(svg.matches("<circle").count(), 8);
}

#[test]
fn a_curve_without_points_says_so() {
    let empty = Series { label: "none".to_owned(), style: Style::Line, points: vec![(0.0, f64::NAN)] };
    let axis = Axis { x: "VMs", y: "milliseconds" };
    let error = curve_plot("nowhere.svg".as_ref(), "None", &axis, &[empty]).expect_err("empty");
    assert_eq!(error.to_string(), "The plot nowhere.svg would be empty");
}
