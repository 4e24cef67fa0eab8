//! Names of the devices and tables that an engine makes, so that it knows its own and leaves others alone.

use crate::error::{Error, Result};

/// The most bytes of a device's name, without its NUL.
const LONGEST: usize = 15;
/// The most bytes of a prefix: a name keeps enough of an id to be unique.
const LONGEST_PREFIX: usize = 5;

/// How an engine names what it makes in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    prefix: String,
}

impl Names {
    /// Names that begin with a prefix of one to five lower-case letters and digits, the first a letter.
    pub fn new(prefix: &str) -> Result<Self> {
        let valid = (1..=LONGEST_PREFIX).contains(&prefix.len())
            && prefix.starts_with(|c: char| c.is_ascii_lowercase())
            && prefix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if valid {
            Ok(Self { prefix: prefix.to_owned() })
        } else {
            Err(Error::invalid("prefix of network names", prefix, "it takes one to five letters a-z or digits"))
        }
    }

    /// The prefix itself.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The bridge of the default network.
    pub fn default_bridge(&self) -> String {
        format!("{}0", self.prefix)
    }

    /// The bridge of another network, by the network's id.
    pub fn bridge(&self, id: &str) -> String {
        self.with_id('-', id)
    }

    /// The host's side of an endpoint, by the endpoint's id.
    pub fn veth(&self, id: &str) -> String {
        self.with_id('v', id)
    }

    /// The table of rules.
    pub fn table(&self) -> &str {
        &self.prefix
    }

    /// What is written beside a bridge to mark it as this engine's: its alias.
    pub fn alias(&self, id: &str) -> String {
        format!("{}{id}", self.alias_prefix())
    }

    /// With what every alias of this engine's bridges begins.
    pub fn alias_prefix(&self) -> String {
        format!("gantry/{}/", self.prefix)
    }

    /// Whether a device's name is one that [`Names::veth`] makes.
    pub fn is_veth(&self, name: &str) -> bool {
        name.len() == LONGEST
            && name.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('v')).is_some_and(is_hex)
    }

    fn with_id(&self, mark: char, id: &str) -> String {
        let mut name = format!("{}{mark}", self.prefix);
        let room = LONGEST - name.len();
        name.extend(id.chars().chain(std::iter::repeat('0')).take(room));
        name
    }
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let names = Names::new("gtr").unwrap();
        assert_eq!(names.default_bridge(), "gtr0");
        assert_eq!(names.bridge("0123456789abcdef"), "gtr-0123456789a");
        assert_eq!(names.veth("0123456789abcdef"), "gtrv0123456789a");
        assert_eq!(names.veth("01"), "gtrv01000000000");
        let check = |name: &str, expect: bool| assert_eq!(names.is_veth(name), expect, "{name}");
        check("gtrv0123456789a", true);
        check("gtrv0123456789", false);
        check("gtrv0123456789z", false);
        check("gtr-0123456789a", false);
        check("gtr1v012345678a", false);
        for prefix in ["", "Gtr", "toolong", "1a", "a-b", "é"] {
            assert!(Names::new(prefix).is_err(), "{prefix}");
        }
    }
}
