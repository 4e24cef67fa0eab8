//! Which devices a container may use: the rules of config.json, and the state of the v1 devices controller they lead to.
//!
//! Rules apply in their order, the last one that matches wins, and what no rule matches is denied (config-linux.md, Allowed
//! Device list). A v2 program expresses that exactly. The v1 controller knows only a default and a set of exceptions, so a
//! rule that takes a part out of a wider exception cannot be expressed there, and is refused rather than widened.

use std::collections::BTreeMap;
use std::fmt;

use gantry_model::oci::linux::DeviceRule;

use crate::error::Error;

/// Making a device file, in the kernel's bits (`BPF_DEVCG_ACC_*`).
pub(crate) const MKNOD: u8 = 1;
/// Reading.
pub(crate) const READ: u8 = 2;
/// Writing.
pub(crate) const WRITE: u8 = 4;
/// All of it.
pub(crate) const ALL: u8 = MKNOD | READ | WRITE;

/// A kind of device that the controller tells apart; the values are the kernel's (`BPF_DEVCG_DEV_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Block device.
    Block = 1,
    /// Character device.
    Char = 2,
}

impl Kind {
    const fn letter(self) -> char {
        match self {
            Self::Block => 'b',
            Self::Char => 'c',
        }
    }
}

/// The devices that a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Devices {
    /// Major number; absent is every one.
    pub major: Option<u32>,
    /// Minor number; absent is every one.
    pub minor: Option<u32>,
    /// Kind.
    pub kind: Kind,
}

impl Devices {
    /// Whether every device of `other` is one of these.
    fn contains(&self, other: &Self) -> bool {
        let wide = |a: Option<u32>, b: Option<u32>| a.is_none() || a == b;
        self.kind == other.kind && wide(self.major, other.major) && wide(self.minor, other.minor)
    }

    /// Whether some device is one of both.
    fn meets(&self, other: &Self) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind && meet(self.major, other.major) && meet(self.minor, other.minor)
    }
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        write!(f, "{} {}:{}", self.kind.letter(), number(self.major), number(self.minor))
    }
}

/// One rule, in the form that the kernel's files take: `c 1:3 rwm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whether access is given or taken.
    pub allow: bool,
    /// To what.
    pub devices: Devices,
    /// Which access: bits of 1 (mknod), 2 (read) and 4 (write).
    pub access: u8,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.devices, letters(self.access))
    }
}

fn letters(access: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')].iter().filter(|(bit, _)| access & bit != 0).map(|(_, c)| c).collect()
}

/// The rules after the last one that is about every device, and that one's answer as the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What happens to a device that no rule matches.
    pub default_allow: bool,
    /// In their order.
    pub rules: Vec<Rule>,
}

impl Rules {
    /// Reads rules of config.json. A rule without kind is about every kind; one without numbers, about every number.
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a DeviceRule>) -> Result<Self, Error> {
        let mut out = Self { default_allow: false, rules: Vec::new() };
        for rule in rules {
            out.push(rule)?;
        }
        Ok(out)
    }

    fn push(&mut self, rule: &DeviceRule) -> Result<(), Error> {
        let (major, minor) = (number("major", rule.major)?, number("minor", rule.minor)?);
        let access = access(rule.access.as_deref())?;
        let kinds: &[Kind] = match rule.kind.as_deref().unwrap_or("a") {
            "a" | "" if (major, minor, access) == (None, None, ALL) => {
                *self = Self { default_allow: rule.allow, rules: Vec::new() };
                return Ok(());
            }
            // Narrower than everything, so no change of the default: the same for both kinds.
            "a" | "" => &[Kind::Char, Kind::Block],
            "c" | "u" => &[Kind::Char],
            "b" => &[Kind::Block],
            other => return Err(Error::resource("resources.devices.type", other, "known are a, b and c")),
        };
        for &kind in kinds {
            self.rules.push(Rule { allow: rule.allow, devices: Devices { major, minor, kind }, access });
        }
        Ok(())
    }

    /// Whether every access is allowed, so that no filter is needed.
    pub fn allows_everything(&self) -> bool {
        self.default_allow && self.rules.iter().all(|rule| rule.allow)
    }
}

fn number(what: &'static str, value: Option<i64>) -> Result<Option<u32>, Error> {
    let field = if what == "major" { "resources.devices.major" } else { "resources.devices.minor" };
    match value {
        None | Some(-1) => Ok(None),
        Some(n) => {
            u32::try_from(n).map(Some).map_err(|_| Error::resource(field, n, "not a device number; -1 means every one"))
        }
    }
}

fn access(text: Option<&str>) -> Result<u8, Error> {
    let text = text.filter(|t| !t.is_empty()).unwrap_or("rwm");
    text.chars().try_fold(0, |bits, c| match c {
        'r' => Ok(bits | READ),
        'w' => Ok(bits | WRITE),
        'm' => Ok(bits | MKNOD),
        _ => Err(Error::resource("resources.devices.access", text, "made of r, w and m")),
    })
}

/// What the v1 devices controller of a cgroup holds: a default, and the exceptions to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceSet {
    /// Whether what is no exception is allowed.
    pub default_allow: bool,
    exceptions: BTreeMap<Devices, u8>,
}

impl DeviceSet {
    /// The state that a list of rules leads to.
    pub fn new(rules: &Rules) -> Result<Self, Error> {
        let mut set = Self { default_allow: rules.default_allow, exceptions: BTreeMap::new() };
        for rule in &rules.rules {
            set.apply(rule)?;
        }
        Ok(set)
    }

    fn apply(&mut self, rule: &Rule) -> Result<(), Error> {
        if rule.allow != self.default_allow {
            *self.exceptions.entry(rule.devices).or_default() |= rule.access;
            return Ok(());
        }
        for (devices, access) in &mut self.exceptions {
            if *access & rule.access == 0 || !rule.devices.meets(devices) {
                continue;
            }
            if !rule.devices.contains(devices) {
                let why = format!(
                    "it takes a part out of the wider rule \"{devices} {}\", which cgroup v1 cannot express",
                    letters(*access)
                );
                return Err(Error::resource("resources.devices", rule, why));
            }
            *access &= !rule.access;
        }
        self.exceptions.retain(|_, access| *access != 0);
        Ok(())
    }

    /// The state of a controller, from its `devices.list`. Its exceptions are listed only where the default is to deny.
    pub fn parse(list: &str) -> Result<Self, Error> {
        let mut set = Self::default();
        for line in list.lines() {
            let bad = || Error::Layout(format!("devices.list has a line that is no rule: {line:?}"));
            let mut words = line.split([' ', ':']);
            let (Some(kind), Some(major), Some(minor), Some(letters), None) =
                (words.next(), words.next(), words.next(), words.next(), words.next())
            else {
                return Err(bad());
            };
            let kind = match kind {
                "a" => return Ok(Self { default_allow: true, exceptions: BTreeMap::new() }),
                "b" => Kind::Block,
                "c" => Kind::Char,
                _ => return Err(bad()),
            };
            let number = |text: &str| match text {
                "*" => Ok(None),
                _ => text.parse().map(Some).map_err(|_| bad()),
            };
            let devices = Devices { kind, major: number(major)?, minor: number(minor)? };
            *set.exceptions.entry(devices).or_default() |= access(Some(letters))?;
        }
        Ok(set)
    }

    /// The fewest writes that lead from this state to `target`, each with its file: `devices.allow` or `devices.deny`. The
    /// default is touched only if it differs, or if the exceptions to it cannot be known.
    pub fn transition(&self, target: &Self) -> Vec<Write> {
        let mut writes = Vec::new();
        let none = BTreeMap::new();
        let old = if self.default_allow || self.default_allow != target.default_allow {
            writes.push(Write { allow: target.default_allow, line: "a".to_owned() });
            &none
        } else {
            &self.exceptions
        };
        let mut push = |allow, devices: &Devices, access: u8| {
            if access != 0 {
                writes.push(Write { allow, line: format!("{devices} {}", letters(access)) });
            }
        };
        for (devices, access) in old {
            let kept = target.exceptions.get(devices).copied().unwrap_or(0);
            push(target.default_allow, devices, access & !kept);
        }
        for (devices, access) in &target.exceptions {
            let had = old.get(devices).copied().unwrap_or(0);
            push(!target.default_allow, devices, access & !had);
        }
        writes
    }

    /// The writes that lead from any state to this one.
    pub fn from_scratch(&self) -> Vec<Write> {
        Self { default_allow: true, exceptions: BTreeMap::new() }.transition(self)
    }

    /// Whether everything is allowed.
    pub fn allows_everything(&self) -> bool {
        self.default_allow && self.exceptions.is_empty()
    }

    /// The exceptions, in the order of their numbers.
    pub fn exceptions(&self) -> impl Iterator<Item = (Devices, String)> + '_ {
        self.exceptions.iter().map(|(devices, access)| (*devices, letters(*access)))
    }
}

impl fmt::Display for DeviceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.default_allow { "allow all" } else { "deny all" })?;
        for (index, (devices, access)) in self.exceptions().enumerate() {
            write!(f, "{} {devices} {access}", if index == 0 { " but" } else { "," })?;
        }
        Ok(())
    }
}

/// A line for `devices.allow` or `devices.deny`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Which of the two files.
    pub allow: bool,
    /// The line.
    pub line: String,
}

/// What every container may use, after and above its own rules: device files may be made (not opened), and the devices that
/// the runtime itself puts into `/dev` work, as do terminals and `/dev/net/tun`.
pub fn default_device_rules() -> Vec<DeviceRule> {
    const DEFAULTS: [(&str, i64, i64, &str); 12] = [
        ("c", -1, -1, "m"),
        ("b", -1, -1, "m"),
        ("c", 1, 3, "rwm"),    // null
        ("c", 1, 5, "rwm"),    // zero
        ("c", 1, 7, "rwm"),    // full
        ("c", 1, 8, "rwm"),    // random
        ("c", 1, 9, "rwm"),    // urandom
        ("c", 5, 0, "rwm"),    // tty
        ("c", 5, 1, "rwm"),    // console
        ("c", 5, 2, "rwm"),    // ptmx
        ("c", 10, 200, "rwm"), // net/tun
        ("c", 136, -1, "rwm"), // pts/*
    ];
    DEFAULTS
        .iter()
        .map(|&(kind, major, minor, access)| DeviceRule {
            allow: true,
            kind: Some(kind.into()),
            major: (major >= 0).then_some(major),
            minor: (minor >= 0).then_some(minor),
            access: Some(access.into()),
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `+c 1:3 rwm` allows, `-` denies; `a` alone is everything.
    pub(crate) fn rules(text: &[&str]) -> Vec<DeviceRule> {
        let number = |t: &str| (t != "*").then(|| t.parse().unwrap());
        text.iter()
            .map(|line| {
                let words: Vec<&str> = line[1..].split([' ', ':']).collect();
                DeviceRule {
                    allow: line.starts_with('+'),
                    kind: Some(words[0].into()),
                    major: words.get(1).and_then(|t| number(t)),
                    minor: words.get(2).and_then(|t| number(t)),
                    access: words.get(3).map(|&t| t.into()),
                }
            })
            .collect()
    }

    fn check(text: &[&str], expect: &str) {
        let set = Rules::new(&rules(text)).and_then(|rules| DeviceSet::new(&rules));
        let got = set.map_or_else(|error| error.to_string(), |set| set.to_string());
        assert_eq!(got, expect, "{text:?}");
    }

    #[test]
    fn states() {
        check(&[], "deny all");
        check(&["+a"], "allow all");
        check(&["-a", "+c 1:3 rw", "+c 1:3 m"], "deny all but c 1:3 rwm");
        check(&["+c 1:3 rw", "-a", "+b 8:0 r"], "deny all but b 8:0 r");
        check(&["-a", "+c 1:3 rwm", "-c 1:* w"], "deny all but c 1:3 rm");
        check(&["-a", "+c 1:3 rwm", "-c *:* rwm"], "deny all");
        check(&["+a", "-c 10:229 rwm"], "allow all but c 10:229 rwm");
        check(&["-a", "+a 1:3 r"], "deny all but b 1:3 r, c 1:3 r");
        check(
            &["-a", "+c 1:* rwm", "-c 1:3 w"],
            "resources.devices = c 1:3 w: it takes a part out of the wider rule \"c 1:* rwm\", which cgroup v1 cannot express",
        );
        check(&["-a", "+c 1:* r", "-c 1:3 w"], "deny all but c 1:* r");
        check(&["-a", "+x 1:3 r"], "resources.devices.type = x: known are a, b and c");
        check(&["-a", "+c 1:3 rx"], "resources.devices.access = rx: made of r, w and m");
        check(&["-a", "+c -7:3 r"], "resources.devices.major = -7: not a device number; -1 means every one");
    }

    fn check_transition(from: &str, to: &[&str], expect: &[&str]) {
        let target = DeviceSet::new(&Rules::new(&rules(to)).unwrap()).unwrap();
        let writes = DeviceSet::parse(from).unwrap().transition(&target);
        let got: Vec<String> =
            writes.iter().map(|w| format!("{}{}", if w.allow { '+' } else { '-' }, w.line)).collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn transitions() {
        check_transition("a *:* rwm", &["+c 1:3 rw"], &["-a", "+c 1:3 rw"]);
        check_transition("a *:* rwm", &["+a"], &["+a"]);
        check_transition("c 1:3 rw\nc 1:5 r", &["+c 1:3 r", "+c 1:7 w"], &["-c 1:3 w", "-c 1:5 r", "+c 1:7 w"]);
        check_transition("c 1:3 rw", &["+c 1:3 rw"], &[]);
        check_transition("c 1:3 rw", &["+a", "-b 8:* w"], &["+a", "-b 8:* w"]);
        assert!(DeviceSet::parse("c 1 rw").is_err());
        assert!(DeviceSet::parse("d 1:1 rw").is_err());
    }

    #[test]
    fn defaults_are_a_whitelist() {
        let set = DeviceSet::new(&Rules::new(&default_device_rules()).unwrap()).unwrap();
        assert!(!set.default_allow);
        assert_eq!(set.exceptions().count(), 12);
    }
}
