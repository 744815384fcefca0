//! When and which: how long the host has been up, and the identity of this
//! boot.

use std::time::Duration;

use crate::{HostReader, ReadError};

impl HostReader {
    /// Time since boot, suspended time included (`/proc/uptime`).
    pub fn uptime(&self) -> Result<Duration, ReadError> {
        self.parse("/proc/uptime", parse_uptime)
    }

    /// The random identity of this boot, such as
    /// `7fa756dd-9e5b-4473-83ad-5a92af449ba1`. What was remembered of
    /// processes under another identity is void.
    pub fn boot_id(&self) -> Result<String, ReadError> {
        self.parse("/proc/sys/kernel/random/boot_id", parse_boot_id)
    }
}

fn parse_uptime(text: &str) -> Result<Duration, &'static str> {
    const EXPECTED: &str = "the uptime in seconds";
    let (seconds, part) = text.split_ascii_whitespace().next().and_then(|word| word.split_once('.')).ok_or(EXPECTED)?;
    let seconds = seconds.parse().map_err(|_| EXPECTED)?;
    let hundredths: u32 = part.get(..2).and_then(|two| two.parse().ok()).ok_or(EXPECTED)?;
    Ok(Duration::new(seconds, hundredths * 10_000_000))
}

fn parse_boot_id(text: &str) -> Result<String, &'static str> {
    let id = text.trim();
    if id.len() != 36 || !id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
        return Err("the boot's identity");
    }
    Ok(id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_counts_to_the_hundredth() {
        assert_eq!(parse_uptime("3223.57 5726.81\n"), Ok(Duration::from_millis(3_223_570)));
        for text in ["", "3223", "x.57", "1.x7", "1.5"] {
            assert!(parse_uptime(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_boot_id_is_nothing_but_a_boot_id() {
        assert_eq!(
            parse_boot_id("7fa756dd-9e5b-4473-83ad-5a92af449ba1\n").as_deref(),
            Ok("7fa756dd-9e5b-4473-83ad-5a92af449ba1")
        );
        assert!(parse_boot_id("../../etc/passwd").is_err());
    }

    #[test]
    fn this_host_has_booted() {
        let host = HostReader::default();
        assert!(host.uptime().expect("readable") > Duration::ZERO);
        assert_eq!(host.boot_id().expect("readable").len(), 36);
    }
}
