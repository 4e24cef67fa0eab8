//! What people write in one word: security options, limits, rules for devices. Read purely.

use gantry_model::names::rlimit;
use gantry_model::oci::linux::DeviceRule;
use gantry_model::oci::spec::Rlimit;

use super::Invalid;
use crate::request::Sharing;
use crate::settings::{Filter, Namespace, Security};

/// What security options ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SecurityOptions {
    /// Whether no privileges are gained by executing programs.
    pub no_new_privileges: bool,
    /// The system call filter.
    pub seccomp: Filter,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// Parts of the label of SELinux, in order.
    pub labels: Vec<Label>,
    /// Whether no path is masked or read-only.
    pub systempaths_unconfined: bool,
    /// Whether cgroups can be written.
    pub writable_cgroups: Option<bool>,
}

/// A part of a label of SELinux.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Label {
    /// No label of its own.
    Disable,
    User(String),
    Role(String),
    Type(String),
    Level(String),
    /// The type of its files.
    FileType(String),
}

/// Reads security options. A filter is its text, or `unconfined` or `builtin`.
///
/// # Errors
/// There is no such option.
pub fn security(options: &[String]) -> Result<SecurityOptions, Invalid> {
    let mut all = SecurityOptions::default();
    for option in options {
        match option.as_str() {
            "no-new-privileges" => all.no_new_privileges = true,
            "writable-cgroups" => all.writable_cgroups = Some(true),
            "disable" => all.labels.push(Label::Disable),
            _ => pair(option, &mut all)?,
        }
    }
    Ok(all)
}

fn pair(option: &str, all: &mut SecurityOptions) -> Result<(), Invalid> {
    let unknown = || Invalid::SecurityOption(2, option.to_owned());
    let pair = option.split_once('=').or_else(|| option.split_once(':'));
    let (key, value) = pair.ok_or_else(|| Invalid::SecurityOption(1, option.to_owned()))?;
    match key {
        "label" => all.labels.push(label(value)?),
        "apparmor" => all.apparmor = Some(value.to_owned()).filter(|profile| !profile.is_empty()),
        "seccomp" => {
            all.seccomp = match value {
                "" => Filter::Default,
                "unconfined" => Filter::Unconfined,
                "builtin" => Filter::Builtin,
                profile => Filter::Profile(profile.to_owned()),
            };
        }
        "no-new-privileges" => all.no_new_privileges = boolean(value).ok_or_else(unknown)?,
        "writable-cgroups" => all.writable_cgroups = Some(boolean(value).ok_or_else(unknown)?),
        "systempaths" if value == "unconfined" => all.systempaths_unconfined = true,
        _ => return Err(unknown()),
    }
    Ok(())
}

/// A truth value, in the spellings that clients have.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn label(text: &str) -> Result<Label, Invalid> {
    let bad = || Invalid::Label(text.to_owned());
    if text == "disable" {
        return Ok(Label::Disable);
    }
    let (part, value) = text.split_once(':').ok_or_else(bad)?;
    let value = value.to_owned();
    match part {
        "user" => Ok(Label::User(value)),
        "role" => Ok(Label::Role(value)),
        "type" => Ok(Label::Type(value)),
        "level" => Ok(Label::Level(value)),
        "filetype" => Ok(Label::FileType(value)),
        _ => Err(bad()),
    }
}

impl SecurityOptions {
    /// Says it in settings. Labels are not said: they need the host's policy ([`labels`]).
    pub fn apply(&self, security: &mut Security) {
        security.no_new_privileges |= self.no_new_privileges;
        security.seccomp.clone_from(&self.seccomp);
        security.apparmor.clone_from(&self.apparmor);
        security.writable_cgroups = self.writable_cgroups;
        if self.systempaths_unconfined {
            (security.masked_paths, security.readonly_paths) = (Some(vec![]), Some(vec![]));
        }
    }
}

/// The labels of a container's processes and files: those of the host's policy for containers, `user:role:type:level`, with
/// the parts that were asked for. `level` tells containers apart. None where labels are turned off.
pub fn labels(parts: &[Label], process: &str, file: &str, level: &str) -> Option<(String, String)> {
    if parts.contains(&Label::Disable) {
        return None;
    }
    let fields = |text: &str| {
        let mut fields: Vec<String> = text.splitn(4, ':').map(str::to_owned).collect();
        fields.resize(4, String::new());
        level.clone_into(&mut fields[3]);
        fields
    };
    let (mut process, mut file) = (fields(process), fields(file));
    for part in parts {
        match part {
            Label::Disable => {}
            Label::User(value) => {
                process[0].clone_from(value);
                file[0].clone_from(value);
            }
            Label::Role(value) => process[1].clone_from(value),
            Label::Type(value) => process[2].clone_from(value),
            Label::Level(value) => {
                process[3].clone_from(value);
                file[3].clone_from(value);
            }
            Label::FileType(value) => file[2].clone_from(value),
        }
    }
    Some((process.join(":"), file.join(":")))
}

/// A rule for devices, `c 1:3 rwm`: kind, numbers of which `*` is any, and what is allowed.
///
/// # Errors
/// It is none.
pub fn device_rule(text: &str) -> Result<DeviceRule, Invalid> {
    let bad = || Invalid::DeviceRule(text.to_owned());
    let words: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, access] = words[..] else { return Err(bad()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| match text {
        "*" => Ok(-1),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse::<i64>().map_err(|_| bad()),
        _ => Err(bad()),
    };
    let fits = (1..=3).contains(&access.len()) && access.chars().all(|letter| "rwm".contains(letter));
    if !["a", "b", "c"].contains(&kind) || !fits {
        return Err(bad());
    }
    Ok(DeviceRule {
        allow: true,
        kind: Some(kind.to_owned()),
        major: Some(number(major)?),
        minor: Some(number(minor)?),
        access: Some(access.to_owned()),
    })
}

/// A limit of processes by its short name, `nofile`; -1 is none.
///
/// # Errors
/// There is no such limit, or its values contradict each other.
pub fn ulimit(name: &str, soft: i64, hard: i64) -> Result<Rlimit, Invalid> {
    let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
    if name.is_empty() || rlimit::number(&kind).is_none() {
        return Err(Invalid::Ulimit(format!("invalid ulimit type: {name}")));
    }
    let higher = "ulimit soft limit must be less than or equal to hard limit";
    match (soft, hard) {
        (_, -1) => {}
        (-1, _) => return Err(Invalid::Ulimit(format!("{higher}: soft: -1 (unlimited), hard: {hard}"))),
        _ if soft > hard => return Err(Invalid::Ulimit(format!("{higher}: {soft} > {hard}"))),
        _ => {}
    }
    let value = |limit: i64| match limit {
        -1 => Ok(u64::MAX),
        _ => u64::try_from(limit).map_err(|_| Invalid::Ulimit(format!("invalid value of ulimit {name}: {limit}"))),
    };
    Ok(Rlimit { kind, soft: value(soft)?, hard: value(hard)? })
}

/// A limit as people write it: `nofile=1024:2048`, or `nofile=1024` for both values.
///
/// # Errors
/// As of [`ulimit`].
pub fn parse_ulimit(text: &str) -> Result<Rlimit, Invalid> {
    let bad = || Invalid::Ulimit(format!("invalid ulimit argument: {text}"));
    let (name, values) = text.split_once('=').ok_or_else(bad)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    ulimit(name, soft.parse().map_err(|_| bad())?, hard.parse().map_err(|_| bad())?)
}

/// Whose cgroup namespace a container has: by default its own with version 2 alone, and else the host's.
pub fn cgroup_namespace(asked: Option<&Sharing>, unified: bool) -> Namespace {
    match asked {
        Some(Sharing::Host) => Namespace::Host,
        None if !unified => Namespace::Host,
        _ => Namespace::Own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_options() {
        let check = |options: &[&str], expect: Result<SecurityOptions, &str>| {
            let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
            let found = security(&options).map_err(|error| error.to_string());
            assert_eq!(found, expect.map_err(str::to_owned), "{options:?}");
        };
        let none = SecurityOptions::default;
        check(&[], Ok(none()));
        check(&["no-new-privileges"], Ok(SecurityOptions { no_new_privileges: true, ..none() }));
        check(&["no-new-privileges:true"], Ok(SecurityOptions { no_new_privileges: true, ..none() }));
        check(&["no-new-privileges", "no-new-privileges=false"], Ok(none()));
        check(&["writable-cgroups=0"], Ok(SecurityOptions { writable_cgroups: Some(false), ..none() }));
        check(&["writable-cgroups"], Ok(SecurityOptions { writable_cgroups: Some(true), ..none() }));
        check(&["seccomp=unconfined"], Ok(SecurityOptions { seccomp: Filter::Unconfined, ..none() }));
        check(&["seccomp:unconfined"], Ok(SecurityOptions { seccomp: Filter::Unconfined, ..none() }));
        check(&["seccomp=builtin"], Ok(SecurityOptions { seccomp: Filter::Builtin, ..none() }));
        let profile = Filter::Profile("{\"a\":\"b=c\"}".to_owned());
        check(&["seccomp={\"a\":\"b=c\"}"], Ok(SecurityOptions { seccomp: profile, ..none() }));
        check(&["apparmor=my:own"], Ok(SecurityOptions { apparmor: Some("my:own".to_owned()), ..none() }));
        check(&["systempaths=unconfined"], Ok(SecurityOptions { systempaths_unconfined: true, ..none() }));
        let labels = vec![Label::Type("a_t".to_owned()), Label::Level("s0:c1".to_owned()), Label::Disable];
        check(&["label=type:a_t", "label:level:s0:c1", "disable"], Ok(SecurityOptions { labels, ..none() }));
        check(&["nothing"], Err("invalid --security-opt 1: \"nothing\""));
        check(&["a=b"], Err("invalid --security-opt 2: \"a=b\""));
        check(&["systempaths=all"], Err("invalid --security-opt 2: \"systempaths=all\""));
        check(&["no-new-privileges=maybe"], Err("invalid --security-opt 2: \"no-new-privileges=maybe\""));
        let bad = "bad label option \"x\", valid options 'disable' or \n'user, role, level, type, filetype' followed by \
            ':' and a value";
        check(&["label=x"], Err(bad));
    }

    #[test]
    fn labels_of_a_container() {
        let (process, file) = ("system_u:system_r:container_t:s0", "system_u:object_r:container_file_t:s0");
        let check = |parts: &[Label], expect: Option<(&str, &str)>| {
            let found = labels(parts, process, file, "s0:c1,c2");
            let expect = expect.map(|(process, file)| (process.to_owned(), file.to_owned()));
            assert_eq!(found, expect, "{parts:?}");
        };
        let usual = "system_u:object_r:container_file_t:s0:c1,c2";
        check(&[], Some(("system_u:system_r:container_t:s0:c1,c2", usual)));
        let own = [Label::Type("a_t".to_owned()), Label::Level("s0:c9".to_owned())];
        check(&own, Some(("system_u:system_r:a_t:s0:c9", "system_u:object_r:container_file_t:s0:c9")));
        let own = [Label::User("u".to_owned()), Label::Role("r".to_owned()), Label::FileType("f_t".to_owned())];
        check(&own, Some(("u:r:container_t:s0:c1,c2", "u:object_r:f_t:s0:c1,c2")));
        check(&[Label::Type("a_t".to_owned()), Label::Disable], None);
    }

    #[test]
    fn rules() {
        let check = |text: &str, expect: Option<(&str, i64, i64, &str)>| {
            let found = device_rule(text).ok();
            let found = found.as_ref().map(|rule| {
                let (kind, access) = (rule.kind.as_deref().unwrap(), rule.access.as_deref().unwrap());
                (kind, rule.major.unwrap(), rule.minor.unwrap(), access)
            });
            assert_eq!(found, expect, "{text}");
        };
        check("c 1:3 rwm", Some(("c", 1, 3, "rwm")));
        check("b 8:* r", Some(("b", 8, -1, "r")));
        check("a *:* rwm", Some(("a", -1, -1, "rwm")));
        for bad in [
            "",
            "c 1:3",
            "c 1 rwm",
            "x 1:3 rwm",
            "c 1:3 rwx",
            "c 1:3 rwmm",
            "c 1:3  r",
            "c :3 r",
            "c -1:3 r",
            "c +1:3 r",
        ] {
            check(bad, None);
        }
        check("c 99999999999999999999:1 r", None);
        assert_eq!(device_rule("c").unwrap_err().to_string(), "invalid device cgroup rule format: 'c'");
    }

    #[test]
    fn limits() {
        let check = |text: &str, expect: Result<(&str, u64, u64), &str>| {
            let found = parse_ulimit(text).map(|limit| (limit.kind, limit.soft, limit.hard));
            let expect = expect.map(|(kind, soft, hard)| (kind.to_owned(), soft, hard));
            assert_eq!(found.map_err(|error| error.to_string()), expect.map_err(str::to_owned), "{text}");
        };
        check("nofile=1024:2048", Ok(("RLIMIT_NOFILE", 1024, 2048)));
        check("core=0", Ok(("RLIMIT_CORE", 0, 0)));
        check("memlock=-1:-1", Ok(("RLIMIT_MEMLOCK", u64::MAX, u64::MAX)));
        check("nproc=5:-1", Ok(("RLIMIT_NPROC", 5, u64::MAX)));
        check("nofile", Err("invalid ulimit argument: nofile"));
        check("nofile=a", Err("invalid ulimit argument: nofile=a"));
        check("nofile=1:2:3", Err("invalid ulimit argument: nofile=1:2:3"));
        check("files=1", Err("invalid ulimit type: files"));
        check("nofile=5:3", Err("ulimit soft limit must be less than or equal to hard limit: 5 > 3"));
        let unlimited = "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: 3";
        check("nofile=-1:3", Err(unlimited));
        check("nofile=-5:3", Err("invalid value of ulimit nofile: -5"));
    }

    #[test]
    fn cgroup_namespaces() {
        let check =
            |asked: Option<Sharing>, unified, expect| assert_eq!(cgroup_namespace(asked.as_ref(), unified), expect);
        check(None, true, Namespace::Own);
        check(None, false, Namespace::Host);
        check(Some(Sharing::Private), false, Namespace::Own);
        check(Some(Sharing::Host), true, Namespace::Host);
    }
}
