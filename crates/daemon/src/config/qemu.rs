//! The table `[qemu]`: who QEMU runs as.

use dynmem_linux::{Account, HostReader};
use serde::Deserialize;

/// The user that packages make for QEMU.
const USER: &str = "dynmem-qemu";
/// The word for "what the host suggests".
const AUTO: &str = "auto";

/// The table `[qemu]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QemuSection {
    /// The user that QEMU runs as. `auto` is `dynmem-qemu` where the daemon is
    /// root and there is such a user, else the daemon's own.
    pub user: String,
}

impl Default for QemuSection {
    fn default() -> Self {
        Self { user: AUTO.to_owned() }
    }
}

/// Who QEMU runs as on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QemuUser {
    /// `None` for the daemon's own user.
    pub account: Option<Account>,
    /// A sentence about rights that QEMU has and need not have.
    pub warning: Option<String>,
}

impl QemuSection {
    /// Who QEMU runs as where the daemon is user number `own`, or a sentence
    /// why that can't be.
    pub fn settle(&self, host: &HostReader, own: u32) -> Result<QemuUser, String> {
        let is_root = own == 0;
        let as_we_are = QemuUser { account: None, warning: None };
        let is_auto = self.user == AUTO;
        if is_auto && !is_root {
            return Ok(as_we_are);
        }
        let name = if is_auto { USER } else { &self.user };
        let found = host.account(name).map_err(|error| format!("Can't look up QEMU's user {name}: {error}"))?;
        match found {
            None if is_auto => Ok(QemuUser {
                warning: Some(format!(
                    "QEMU runs as root, because there is no user {USER}: what breaks out of a guest owns this host. Make \
                     the user (packaging/sysusers.d/dynmem.conf), or name another one as user in [qemu]"
                )),
                ..as_we_are
            }),
            None => Err(format!("Setting qemu.user can't be {name:?}: there is no such user in /etc/passwd")),
            Some(account) if account.uid == own => Ok(as_we_are),
            Some(_) if !is_root => Err(format!(
                "Setting qemu.user can't be {name:?}: only root can start QEMU as another user; run dynmemd as root, or \
                 set \"auto\""
            )),
            Some(account) => Ok(QemuUser { account: Some(account), ..as_we_are }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A host with these users.
    fn host(passwd: &str) -> (tempfile::TempDir, HostReader) {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("etc")).expect("made");
        fs::write(root.path().join("etc/passwd"), passwd).expect("written");
        fs::write(root.path().join("etc/group"), "kvm:x:105:dynmem-qemu\n").expect("written");
        let host = HostReader::at(root.path());
        (root, host)
    }

    const ROOT: &str = "root:x:0:0::/root:/bin/sh\n";
    const BOTH: &str = "root:x:0:0::/root:/bin/sh\ndynmem-qemu:x:990:990::/:/sbin/nologin\n";

    fn settle(user: &str, passwd: &str, own: u32) -> Result<QemuUser, String> {
        let (_root, host) = host(passwd);
        QemuSection { user: user.to_owned() }.settle(&host, own)
    }

    #[test]
    fn auto_is_the_packages_user_for_root_and_nobody_else() {
        let user = settle("auto", BOTH, 0).expect("there");
        let account = Account { name: USER.to_owned(), uid: 990, gid: 990, groups: vec![990, 105] };
        assert_eq!(user, QemuUser { account: Some(account), warning: None });
        assert_eq!(settle("auto", BOTH, 1000), Ok(QemuUser { account: None, warning: None }));
    }

    #[test]
    fn root_without_that_user_is_warned_unless_it_was_chosen() {
        let user = settle("auto", ROOT, 0).expect("it works all the same");
        assert_eq!(user.account, None);
        assert!(user.warning.expect("a warning").starts_with("QEMU runs as root"));
        assert_eq!(settle("root", ROOT, 0), Ok(QemuUser { account: None, warning: None }));
    }

    #[test]
    fn a_user_that_can_not_be_is_refused() {
        assert!(settle("qmeu", BOTH, 0).expect_err("misspelt").contains("no such user"));
        assert!(settle("dynmem-qemu", BOTH, 1000).expect_err("not root").contains("only root can"));
        assert_eq!(settle("dynmem-qemu", BOTH, 990), Ok(QemuUser { account: None, warning: None }));
    }
}
