//! Who is who: users and groups of this host, from `/etc/passwd` and
//! `/etc/group`.
//!
//! Only these two files: a service's own user is a local one, and asking a
//! directory over the network could hang the daemon.

use crate::{HostReader, ReadError};

/// What is looked for where a line is not understood.
const EXPECTED_USER: &str = "a line NAME:PASSWORD:UID:GID:… of this user";
const EXPECTED_GROUP: &str = "a line NAME:PASSWORD:GID:MEMBERS of this group";
/// Groups that a user may be in: the kernel takes more, a service needs few.
const GROUPS_MAX: usize = 64;

/// A user, as processes become it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the user's own group.
    pub gid: u32,
    /// The numbers of all groups that it is in, its own included; at most 64.
    pub groups: Vec<u32>,
}

impl HostReader {
    /// The user of this name; `None` if there is none.
    pub fn account(&self, name: &str) -> Result<Option<Account>, ReadError> {
        let found = self.parse("/etc/passwd", |text| parse_user(text, name))?;
        let Some((uid, gid)) = found else { return Ok(None) };
        let groups = self.parse("/etc/group", |text| Ok(parse_memberships(text, name, gid)))?;
        Ok(Some(Account { name: name.to_owned(), uid, gid, groups }))
    }

    /// The number of the group of this name; `None` if there is none.
    pub fn group_id(&self, name: &str) -> Result<Option<u32>, ReadError> {
        self.parse("/etc/group", |text| parse_group(text, name))
    }
}

fn entry<'a>(text: &'a str, name: &str) -> Option<std::str::Split<'a, char>> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(fields)
    })
}

fn parse_user(text: &str, name: &str) -> Result<Option<(u32, u32)>, &'static str> {
    let Some(mut fields) = entry(text, name) else { return Ok(None) };
    let mut number = |skipped| fields.nth(skipped)?.parse().ok();
    let (uid, gid) = (number(1).ok_or(EXPECTED_USER)?, number(0).ok_or(EXPECTED_USER)?);
    Ok(Some((uid, gid)))
}

fn parse_group(text: &str, name: &str) -> Result<Option<u32>, &'static str> {
    let Some(mut fields) = entry(text, name) else { return Ok(None) };
    fields.nth(1).and_then(|number| number.parse().ok()).map(Some).ok_or(EXPECTED_GROUP)
}

fn parse_memberships(text: &str, name: &str, own: u32) -> Vec<u32> {
    let mut groups = vec![own];
    for line in text.lines() {
        let mut fields = line.split(':').skip(2);
        let (Some(Ok(gid)), Some(members)) = (fields.next().map(str::parse), fields.next()) else { continue };
        if members.split(',').any(|member| member == name) && !groups.contains(&gid) && groups.len() < GROUPS_MAX {
            groups.push(gid);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nqemu:x:64055:104::/:/bin/false\nbad:x:y:1::/:\n";
    const GROUP: &str = "root:x:0:\nkvm:x:105:alice,qemu\nqemu:x:104:qemu\nqemux:x:9:xqemu\nbroken\nodd:x:z:qemu\n";

    #[test]
    fn a_user_is_in_its_own_group_and_in_those_that_name_it() {
        assert_eq!(parse_user(PASSWD, "qemu"), Ok(Some((64055, 104))));
        assert_eq!(parse_memberships(GROUP, "qemu", 104), [104, 105]);
        assert_eq!(parse_memberships(GROUP, "nobody", 65534), [65534]);
    }

    #[test]
    fn a_name_that_is_not_there_is_none_and_a_broken_line_is_an_error() {
        assert_eq!(parse_user(PASSWD, "qem"), Ok(None));
        assert_eq!(parse_user(PASSWD, ""), Ok(None));
        assert_eq!(parse_user(PASSWD, "bad"), Err(EXPECTED_USER));
        assert_eq!(parse_group(GROUP, "kvm"), Ok(Some(105)));
        assert_eq!(parse_group(GROUP, "dynmem"), Ok(None));
        assert_eq!(parse_group(GROUP, "odd"), Err(EXPECTED_GROUP));
        assert_eq!(parse_group(GROUP, "broken"), Err(EXPECTED_GROUP));
    }

    #[test]
    fn this_host_has_a_root() {
        let root = HostReader::default().account("root").expect("readable").expect("everywhere");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
    }
}
