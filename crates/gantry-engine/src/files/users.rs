//! Who a process runs as: names of users and groups, by the container's own files.

use std::os::fd::BorrowedFd;

use gantry_model::oci::spec::User;

use super::read_in;
use crate::error::{Error, Result};

/// The most that is read of the files of users and of groups.
const MOST: u64 = 4 << 20;
/// The largest id.
const MAX_ID: i64 = 0x7fff_ffff;

/// Who a process runs as.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// By number.
    pub(crate) user: User,
    /// The home directory.
    pub(crate) home: String,
}

/// Finds out who `USER[:GROUP]` is, with further groups by name or number.
pub(crate) fn resolve(root: BorrowedFd<'_>, asked: &str, groups: &[String]) -> Result<Found> {
    let passwd = read_in(root, "etc/passwd", MOST).unwrap_or_default();
    let group = read_in(root, "etc/group", MOST).unwrap_or_default();
    find(&passwd, &group, asked, groups)
}

/// A line of the file of users.
struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn entries(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    passwd.lines().filter_map(|line| {
        let mut parts = line.trim().split(':');
        let name = parts.next().filter(|name| !name.is_empty())?;
        let (uid, gid) = (parts.nth(1)?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Entry { name, uid, gid, home: parts.nth(1).unwrap_or_default() })
    })
}

/// The groups: name, number, members.
fn group_entries(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut parts = line.trim().split(':');
        let name = parts.next().filter(|name| !name.is_empty())?;
        let gid = parts.nth(1)?.parse().ok()?;
        Some((name, gid, parts.next().unwrap_or_default()))
    })
}

/// A number that is an id; none for what is no number.
fn id(text: &str) -> Result<Option<u32>> {
    match text.parse::<i64>() {
        Ok(number) if (0..=MAX_ID).contains(&number) => Ok(Some(number as u32)),
        Ok(_) => Err(Error::Invalid("uids and gids must be in range 0-2147483647".to_owned())),
        Err(_) => Ok(None),
    }
}

fn find(passwd: &str, group: &str, asked: &str, groups: &[String]) -> Result<Found> {
    let mut parts = asked.split(':');
    let (name, group_name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    // A number is never a name: whoever can write a user's name must not choose whom a number means.
    let number = if name.is_empty() { Some(0) } else { id(name)? };
    let entry = match number {
        Some(number) => entries(passwd).find(|entry| entry.uid == number),
        None => entries(passwd).find(|entry| entry.name == name),
    };
    let uid = match (&entry, number) {
        (Some(entry), _) => entry.uid,
        (None, Some(number)) => number,
        (None, None) => {
            return Err(Error::Invalid(format!("unable to find user {name}: no matching entries in passwd file")));
        }
    };
    let mut gid = entry.as_ref().map_or(0, |entry| entry.gid);
    let mut of_user: Vec<u32> = Vec::new();
    if group_name.is_empty() {
        if let Some(entry) = &entry {
            let of =
                group_entries(group).filter(|(_, _, members)| members.split(',').any(|member| member == entry.name));
            of_user.extend(of.map(|(_, gid, _)| gid));
        }
    } else {
        gid = group_of(group, group_name)?.ok_or_else(|| {
            Error::Invalid(format!("unable to find group {group_name}: no matching entries in group file"))
        })?;
    }
    // Its own group is among them, so that nothing that is forbidden to the group is allowed to who leaves it.
    let mut further = vec![gid];
    further.extend(of_user);
    for name in groups {
        let found = group_of(group, name)?
            .ok_or_else(|| Error::Invalid(format!("Unable to find group {name}: no matching entries in group file")))?;
        further.push(found);
    }
    let mut seen = std::collections::BTreeSet::new();
    further.retain(|gid| seen.insert(*gid));
    let home = entry.map(|entry| entry.home).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
    Ok(Found { user: User { uid, gid, umask: None, additional_gids: further }, home })
}

fn group_of(group: &str, name: &str) -> Result<Option<u32>> {
    match id(name)? {
        Some(number) => Ok(Some(number)),
        None => Ok(group_entries(group).find(|(known, _, _)| *known == name).map(|(_, gid, _)| gid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nu:x:1000:1001:u:/home/u:/bin/sh\nbroken\n77:x:5:6::/x:\n";
        let group = "root:x:0:\nu:x:1001:\nmore:x:1002:u,root\nadm:x:4:u\n78:x:3:\n";
        let check = |asked: &str, groups: &[&str], expect: &str| {
            let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
            let found = find(passwd, group, asked, &groups).map_or_else(
                |error| error.to_string(),
                |found| {
                    format!("{}:{} {:?} {}", found.user.uid, found.user.gid, found.user.additional_gids, found.home)
                },
            );
            assert_eq!(found, expect, "{asked}");
        };
        check("", &[], "0:0 [0, 1002] /root");
        check("u", &[], "1000:1001 [1001, 1002, 4] /home/u");
        check("1000", &[], "1000:1001 [1001, 1002, 4] /home/u");
        check("u:more", &[], "1000:1002 [1002] /home/u");
        check("u:more:x", &[], "1000:1002 [1002] /home/u");
        check("u:7", &[], "1000:7 [7] /home/u");
        check(":7", &[], "0:7 [7] /root");
        check("u:", &["4"], "1000:1001 [1001, 1002, 4] /home/u");
        check("4242", &[], "4242:0 [0] /");
        check("+5", &[], "5:6 [6] /x");
        check("4242:4243", &["adm", "9", "adm"], "4242:4243 [4243, 4, 9] /");
        // A number is a number, whoever has it for a name.
        check("77", &[], "77:0 [0] /");
        check("u:78", &["78"], "1000:78 [78] /home/u");
        check(" root", &[], "unable to find user  root: no matching entries in passwd file");
        check("0x10", &[], "unable to find user 0x10: no matching entries in passwd file");
        check("nobody", &[], "unable to find user nobody: no matching entries in passwd file");
        check("u:none", &[], "unable to find group none: no matching entries in group file");
        check("u", &["none"], "Unable to find group none: no matching entries in group file");
        check("-1", &[], "uids and gids must be in range 0-2147483647");
        check("4294967296", &[], "uids and gids must be in range 0-2147483647");
    }
}
