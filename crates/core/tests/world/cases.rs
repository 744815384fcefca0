//! How many random cases a test tries, and where it keeps those that failed.

use proptest::test_runner::{Config, FileFailurePersistence};

/// 128 cases, or as many as `PROPTEST_CASES` says; what fails is written to
/// `regressions` and tried first from then on.
pub fn cases(regressions: &'static str) -> Config {
    let regressions = FileFailurePersistence::Direct(regressions);
    let default = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 128 };
    Config { cases, failure_persistence: Some(Box::new(regressions)), ..default }
}
