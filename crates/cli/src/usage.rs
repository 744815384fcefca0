//! [`Usage`]: what was asked makes no sense, or may not be done so.

use std::fmt;

/// The command line is wrong in a way that clap can't see: exit code 2, as
/// clap's own errors have. A sentence that says what to write.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}
