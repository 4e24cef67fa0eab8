//! Ids, and names for containers that were given none.

use std::fs::File;
use std::io::Read as _;

use crate::error::{Context, Error, Result};

const FIRST: [&str; 64] = [
    "able", "amber", "ample", "apt", "azure", "bold", "brave", "brisk", "calm", "clear", "clever", "cosy", "crisp",
    "deft", "eager", "early", "fair", "fast", "fine", "firm", "fleet", "fond", "frank", "fresh", "gentle", "glad",
    "golden", "grand", "happy", "hardy", "humble", "jolly", "keen", "kind", "late", "light", "lively", "lucid",
    "merry", "mild", "modest", "neat", "noble", "patient", "placid", "plain", "polite", "prime", "proud", "quick",
    "quiet", "rapid", "ready", "regal", "robust", "sage", "silver", "sober", "solid", "steady", "stout", "sunny",
    "swift", "warm",
];
const SECOND: [&str; 64] = [
    "anchor",
    "barge",
    "basin",
    "beacon",
    "berth",
    "boom",
    "bow",
    "bridge",
    "buoy",
    "cable",
    "canal",
    "capstan",
    "cargo",
    "chain",
    "channel",
    "clipper",
    "coaster",
    "compass",
    "crane",
    "cutter",
    "davit",
    "deck",
    "derrick",
    "dock",
    "dredger",
    "ferry",
    "freighter",
    "gangway",
    "girder",
    "harbour",
    "hatch",
    "hawser",
    "helm",
    "hoist",
    "hull",
    "jetty",
    "keel",
    "ketch",
    "lantern",
    "lighter",
    "lock",
    "mast",
    "mole",
    "mooring",
    "oar",
    "packet",
    "pier",
    "pilot",
    "port",
    "quay",
    "rigger",
    "rudder",
    "sail",
    "schooner",
    "sextant",
    "shackle",
    "spar",
    "spreader",
    "steamer",
    "stern",
    "tender",
    "trolley",
    "tug",
    "winch",
];

/// Random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.context(|| "read /dev/urandom".to_owned())?;
    Ok(bytes)
}

/// An id: 64 hexadecimal digits. The beginning of an id may stand for it, so it must not look like a number.
pub(crate) fn id() -> Result<String> {
    loop {
        let text = hex(&random::<32>()?);
        if !text[..12].bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(text);
        }
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// A name that is made up from a number; a further try has a number after it.
pub(crate) fn made_up(number: u16, tries: u32) -> String {
    let (first, second) = (FIRST[usize::from(number) % 64], SECOND[usize::from(number >> 6) % 64]);
    if tries == 0 { format!("{first}_{second}") } else { format!("{first}_{second}{tries}") }
}

/// Refuses what cannot be a name: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn check(what: &'static str, name: &str) -> Result<()> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest && (2..=255).contains(&name.len()) {
        return Ok(());
    }
    Err(Error::InvalidName(what, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, good) in
            [("a", false), ("ab", true), ("_a", false), ("a_.-9", true), ("a/b", false), ("", false), ("é9", false)]
        {
            assert_eq!(check("container", name).is_ok(), good, "{name}");
        }
        for number in 0..=u16::MAX {
            check("container", &made_up(number, 0)).unwrap();
        }
        assert_eq!(hex(&[0, 0xa5, 0xff]), "00a5ff");
        assert_eq!(id().unwrap().len(), 64);
    }
}
