//! `dynmem token`: who may use the API from other machines. No daemon is asked.

use anyhow::{Result, anyhow};
use dynmem_api::{NewToken, TokenRole};
use serde::Serialize;

use crate::{
    args::TokenCommand,
    render::{Output, Show, Style},
};

/// A token that was made just now.
#[derive(Serialize)]
struct Made {
    name: String,
    role: TokenRole,
    secret: String,
    line: String,
}

impl Show for Made {
    fn text(&self, _: &Style) -> String {
        let Self { secret, line, .. } = self;
        format!(
            "The secret, which is shown this once:\n  {secret}\nThe line for the daemon's file of tokens:\n  {line}"
        )
    }
}

pub(super) fn run(command: TokenCommand, output: &mut Output) -> Result<()> {
    let TokenCommand::New { name, role } = command;
    let NewToken { secret, entry } = NewToken::make(&name, role).map_err(|rule| anyhow!(rule))?;
    output.show(&Made { name, role, secret, line: entry.to_string() })?;
    Ok(())
}
