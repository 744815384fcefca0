//! Values that people write in one word, and why a word is not one.

use std::{path::PathBuf, time::Duration};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use dynmem_api::TokenRole;
use dynmem_core::DemandModel;
use dynmem_definition::{Accelerator, Autostart, Disk, DiskFormat, Network, check_name};
use dynmem_units::{Percent, Weight};

use super::Form;

/// A VM's name, and no pattern.
pub(super) fn name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// A pattern of counters or VMs: short, and without the comma that parts them.
pub(super) fn counter_pattern(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 255 || text.contains(',') {
        return Err("write the name of a VM or a counter, at most 255 bytes without commas; * is any characters".into());
    }
    Ok(text.to_owned())
}

/// `20` or `20%`.
pub(super) fn percent(text: &str) -> Result<Percent, String> {
    let digits = text.strip_suffix('%').unwrap_or(text);
    digits.parse().map(Percent::new).map_err(|_| format!("{text:?} is not a whole percentage such as 20 or 20%"))
}

/// 1–10000.
pub(super) fn weight(text: &str) -> Result<Weight, String> {
    let number: u64 = text.parse().map_err(|_| format!("{text:?} is not a whole number from 1 to 10000"))?;
    Weight::new(number).map_err(|error| error.to_string())
}

/// `table`, `json`, …
pub(super) fn form() -> impl TypedValueParser<Value = Form> {
    PossibleValuesParser::new(Form::ALL.map(Form::as_str)).map(|word| Form::named(&word).unwrap_or_default())
}

/// `on` or `off`.
pub(super) fn on_off() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["on", "off"]).map(|word| word == "on")
}

/// `working-set` or `committed`.
pub(super) fn demand_model() -> impl TypedValueParser<Value = DemandModel> {
    PossibleValuesParser::new(["working-set", "committed"]).map(|word| match word.as_str() {
        "committed" => DemandModel::Committed,
        _ => DemandModel::WorkingSet,
    })
}

/// `auto`, `kvm` or `tcg`.
pub(super) fn accelerator() -> impl TypedValueParser<Value = Accelerator> {
    PossibleValuesParser::new(["auto", "kvm", "tcg"]).map(|word| match word.as_str() {
        "kvm" => Accelerator::Kvm,
        "tcg" => Accelerator::Tcg,
        _ => Accelerator::Auto,
    })
}

/// `nothing`, `start-if-running` or `start`.
pub(super) fn autostart() -> impl TypedValueParser<Value = Autostart> {
    PossibleValuesParser::new(["nothing", "start-if-running", "start"]).map(|word| match word.as_str() {
        "nothing" => Autostart::Nothing,
        "start" => Autostart::Start,
        _ => Autostart::StartIfRunning,
    })
}

/// `read` or `operate`.
pub(super) fn role() -> impl TypedValueParser<Value = TokenRole> {
    PossibleValuesParser::new(["read", "operate"]).map(|word| match word.as_str() {
        "operate" => TokenRole::Operate,
        _ => TokenRole::Read,
    })
}

/// Seconds, with decimals if need be, 0.1–3600.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    if !(0.1..=3600.0).contains(&seconds) {
        return Err(format!("Interval {text} s is out of range: it must be from 0.1 s to 3600 s"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// `90`, `90s`, `15m`, `6h`, `7d`, `2w` or `1y`: a second to ten years.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    const YEAR: u64 = 365 * 86_400;
    let unit = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 7 * 86_400), ("y", YEAR)];
    let (digits, seconds) =
        unit.into_iter().find_map(|(suffix, seconds)| Some((text.strip_suffix(suffix)?, seconds))).unwrap_or((text, 1));
    let number: u64 =
        digits.parse().map_err(|_| format!("{text:?} is not a time such as 90s, 15m, 6h, 7d, 2w or 1y"))?;
    match number.checked_mul(seconds).filter(|seconds| (1..=10 * YEAR).contains(seconds)) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err(format!("Time {text} is out of range: it must be from 1s to 10y")),
    }
}

/// `PATH[,format=qcow2|raw][,read_only]`. The daemon works in a folder of its
/// own, so the path is completed here.
pub(super) fn disk(text: &str) -> Result<Disk, String> {
    let mut words = text.split(',');
    let path = words.next().filter(|path| !path.is_empty()).ok_or("the path of the disk is missing")?;
    let mut disk = Disk { path: absolute(path)?, format: DiskFormat::default(), read_only: false };
    for word in words {
        match word {
            "format=qcow2" => disk.format = DiskFormat::Qcow2,
            "format=raw" => disk.format = DiskFormat::Raw,
            "read_only" => disk.read_only = true,
            other => {
                return Err(format!(
                    "{other:?} is not known after the disk's path: write format=qcow2, format=raw or read_only \
                     (a path with a comma needs a definition file: --file)"
                ));
            }
        }
    }
    Ok(disk)
}

/// `user[,forward=RULE]…`, `tap:DEVICE` or `bridge:BRIDGE`, each with
/// `,mac=ADDRESS` if need be.
pub(super) fn network(text: &str) -> Result<Network, String> {
    let mut words = text.split(',');
    let kind = words.next().unwrap_or_default();
    let (mut mac, mut forward) = (None, Vec::new());
    for word in words {
        match word.split_once('=') {
            Some(("mac", address)) => mac = Some(address.to_owned()),
            Some(("forward", rule)) if kind == "user" => forward.push(rule.to_owned()),
            _ => return Err(format!("{word:?} is not known after {kind:?}: {NETWORKS}")),
        }
    }
    match kind.split_once(':') {
        None if kind == "user" => Ok(Network::User { forward, mac }),
        Some(("tap", device)) if !device.is_empty() => Ok(Network::Tap { device: device.to_owned(), mac }),
        Some(("bridge", bridge)) if !bridge.is_empty() => Ok(Network::Bridge { bridge: bridge.to_owned(), mac }),
        _ => Err(format!("{kind:?} is not a network: {NETWORKS}")),
    }
}

const NETWORKS: &str =
    "write user (and ,forward=tcp:127.0.0.1:2222-:22), tap:DEVICE or bridge:BRIDGE, and ,mac=ADDRESS";

/// A path that means the same in the daemon's folder as in ours.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    absolute(text)
}

/// The same; an empty text stays one.
pub(super) fn path_or_nothing(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Ok(PathBuf::new()) } else { absolute(text) }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| format!("{text:?} is not a path: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_a_path_with_options() {
        let here = std::env::current_dir().expect("a folder to work in");
        assert_eq!(
            disk("web01.img,format=raw,read_only"),
            Ok(Disk { path: here.join("web01.img"), format: DiskFormat::Raw, read_only: true })
        );
        assert_eq!(
            disk("/srv/a.qcow2"),
            Ok(Disk { path: "/srv/a.qcow2".into(), format: DiskFormat::Qcow2, read_only: false })
        );
        for text in ["", ",format=raw", "/a,format=vmdk", "/a,readonly", "/a,"] {
            assert!(disk(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_is_user_tap_or_bridge() {
        assert_eq!(network("user"), Ok(Network::User { forward: vec![], mac: None }));
        assert_eq!(
            network("user,forward=tcp::2222-:22,mac=52:54:00:00:00:01"),
            Ok(Network::User { forward: vec!["tcp::2222-:22".into()], mac: Some("52:54:00:00:00:01".into()) })
        );
        assert_eq!(network("tap:tap0"), Ok(Network::Tap { device: "tap0".into(), mac: None }));
        assert_eq!(network("bridge:br0"), Ok(Network::Bridge { bridge: "br0".into(), mac: None }));
        for text in ["", "tap", "tap:", "bridge:", "vlan:5", "user:x", "tap:t,forward=x", "user,", "user,mac"] {
            let error = network(text).expect_err(text);
            assert!(error.contains("tap:DEVICE"), "{error}");
        }
    }

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        let seconds = |text: &str| span(text).map(|span| span.as_secs());
        assert_eq!(
            ["90", "90s", "15m", "6h", "7d", "2w", "1y"].map(|text| seconds(text).expect(text)),
            [90, 90, 900, 21_600, 604_800, 1_209_600, 31_536_000]
        );
        for text in ["", "h", "1.5h", "-1h", "1 h", "1month"] {
            assert!(seconds(text).is_err_and(|error| error.contains("is not a time")), "{text}");
        }
        for text in ["0", "0h", "11y", "18446744073709551615y"] {
            assert!(seconds(text).is_err_and(|error| error.contains("out of range")), "{text}");
        }
    }

    #[test]
    fn percentages_weights_and_intervals_are_strict() {
        assert_eq!(percent("20%"), Ok(Percent::new(20)));
        assert_eq!(percent("20"), Ok(Percent::new(20)));
        for text in ["", "%", "-5", "2.5", "20%%", "99999999999"] {
            assert!(percent(text).is_err(), "{text}");
        }
        assert!(weight("10000").is_ok());
        assert_eq!(
            weight("10001"),
            Err("Weight 10001 is out of range: weight is a whole number from 1 to 10000".into())
        );
        assert_eq!(interval("0.5"), Ok(Duration::from_millis(500)));
        for text in ["", "0", "-1", "inf", "NaN", "3601", "1s"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
