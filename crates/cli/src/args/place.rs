//! Which daemon is asked, and who makes tokens for it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use dynmem_api::{
    CA_VARIABLE, Client, DEFAULT_SOCKET, SOCKET_VARIABLE, TOKEN_FILE_VARIABLE, TOKEN_VARIABLE, TokenRole, URL_VARIABLE,
};

use super::values;

/// Where the daemon is: on this machine by its socket, or elsewhere by its URL.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The daemon's socket
    #[arg(long, global = true, value_name = "PATH", help = SOCKET_HELP, display_order = 900)]
    socket: Option<PathBuf>,
    /// A daemon on another machine
    #[arg(long, global = true, value_name = "URL", help = URL_HELP, conflicts_with = "socket", display_order = 901)]
    url: Option<String>,
    /// The CA's certificate
    #[arg(long, global = true, value_name = "FILE", help = CA_HELP, display_order = 902)]
    ca: Option<PathBuf>,
}

const SOCKET_HELP: &str = "The daemon's socket [default: $DYNMEM_SOCKET, or /run/dynmem/dynmem.sock]";
const URL_HELP: &str = "A daemon on another machine: https://HOST:PORT [default: $DYNMEM_URL]";
const CA_HELP: &str = "Its certificate's CA, a PEM file [default: $DYNMEM_CA, or the system's]";

impl Place {
    /// How to reach it. Nothing of TLS is touched for one on this machine.
    pub(crate) fn client(&self) -> Result<Client> {
        // What was typed comes before what the environment says.
        if let Some(socket) = &self.socket {
            return Ok(Client::new(socket));
        }
        let Some(url) = self.url.clone().or_else(|| text_of(URL_VARIABLE)) else {
            let socket = path_of(SOCKET_VARIABLE).unwrap_or_else(|| Path::new(DEFAULT_SOCKET).to_owned());
            return Ok(Client::new(socket));
        };
        let ca = self.ca.clone().or_else(|| path_of(CA_VARIABLE));
        // An URL that can't be one is told before a token that is missing.
        let token = token();
        let secret = token.as_deref().unwrap_or_default();
        let client = Client::over_tls(&url, secret, ca.as_deref())?;
        token.map(|_| client).with_context(|| format!("{url} can't be asked without a token"))
    }
}

/// The secret that lets us in. Never an option: everybody can see those.
fn token() -> Result<String> {
    if let Some(token) = text_of(TOKEN_VARIABLE) {
        return Ok(token);
    }
    let Some(path) = path_of(TOKEN_FILE_VARIABLE) else {
        bail!("put it into a file and name that in {TOKEN_FILE_VARIABLE}, or set {TOKEN_VARIABLE}");
    };
    let text = fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn text_of(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|text| !text.is_empty())
}

fn path_of(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token: a secret, shown this once, and the line for the daemon's file
    #[command(after_help = "\
It asks no daemon. Append the line to the file that the daemon's setting tcp.tokens names,
and `systemctl reload dynmemd`. Give the secret to whoever is to have it.

Examples:
  dynmem token new monitoring --role read
  dynmem token new web-console --role operate --json")]
    New {
        /// Who has it: letters, digits, '-', '_' and '.'
        #[arg(value_name = "NAME", value_parser = values::name)]
        name: String,
        /// What it is good for: looking, or everything
        #[arg(long, value_parser = values::role())]
        role: TokenRole,
    },
}
