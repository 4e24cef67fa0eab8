//! Lists of CPUs and memory nodes: `0-3,7` (cpuset(7), "List format").

use super::{NameError, decimal};

/// The most CPUs that Linux can be built for; a number from here on is refused.
pub const MAX_CPUS: usize = 8192;

/// A set of CPU or memory node numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BitSet {
    words: Vec<u64>,
}

impl BitSet {
    /// The set as a mask: bit n of word m is the number 64 m + n. There is no zero word at its end.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Whether the set holds nothing.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// How many numbers the set holds.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether a number is in the set.
    pub fn contains(&self, number: usize) -> bool {
        self.words.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn insert(&mut self, first: usize, last: usize) {
        if self.words.len() <= last / 64 {
            self.words.resize(last / 64 + 1, 0);
        }
        for (at, word) in self.words.iter_mut().enumerate().skip(first / 64).take(last / 64 - first / 64 + 1) {
            let low = if at == first / 64 { first % 64 } else { 0 };
            let high = if at == last / 64 { last % 64 } else { 63 };
            *word |= (u64::MAX << low) & (u64::MAX >> (63 - high));
        }
    }
}

/// Reads a list of CPUs. The empty text is the empty set; spaces around an element and empty elements are let pass, as
/// other runtimes do, but a text without any number is refused.
pub fn parse(text: &str) -> Result<BitSet, NameError> {
    parse_below(text, MAX_CPUS, "cpu list")
}

/// Reads a list of numbers under `bound`, which is above zero; `what` names the list in errors.
pub(super) fn parse_below(text: &str, bound: usize, what: &'static str) -> Result<BitSet, NameError> {
    let mut set = BitSet::default();
    if text.is_empty() {
        return Ok(set);
    }
    let number = |digits: &str| {
        decimal(digits)
            .and_then(|n| usize::try_from(n).ok())
            .filter(|&n| n < bound)
            .ok_or_else(|| NameError::invalid(what, digits, format!("a number from 0 to {} is meant", bound - 1)))
    };
    for element in text.split(',').map(str::trim).filter(|element| !element.is_empty()) {
        let (first, last) = match element.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(element)?, number(element)?),
        };
        if first > last {
            return Err(NameError::invalid(what, element, "the range ends before it begins"));
        }
        set.insert(first, last);
    }
    if set.is_empty() {
        return Err(NameError::invalid(what, text, "it names no member: numbers and ranges are meant, as 0-3,7"));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let check = |text: &str, expect: Option<&[u64]>| {
            assert_eq!(parse(text).ok().as_ref().map(BitSet::words), expect, "{text:?}");
        };
        check("", Some(&[]));
        check("0", Some(&[1]));
        check("0-3,7", Some(&[0x8f]));
        check(" 1 , 2-3 ,,", Some(&[0xe]));
        check("63", Some(&[1 << 63]));
        check("64", Some(&[0, 1]));
        check("62-65", Some(&[3 << 62, 3]));
        check("1-130", Some(&[!1, u64::MAX, 7]));
        check("5-5,5", Some(&[1 << 5]));
        check("128,0", Some(&[1, 0, 1]));
        let full = vec![u64::MAX; 128];
        check("0-8191", Some(&full));
        check(&"0-8191,".repeat(10_000), Some(&full));
        for text in [
            ",",
            " ",
            "-",
            "1-",
            "-1",
            "3-1",
            "1--2",
            "1-2-3",
            "+1",
            "1 - 2",
            "0x1",
            "8192",
            "0-8192",
            "4294967296",
            "18446744073709551616",
            "all",
            "1;2",
            "1\0",
            "١",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn members() {
        let set = parse("0-3,7,100").unwrap();
        assert_eq!(set.len(), 6);
        let expect = |n| (n <= 3) || n == 7 || n == 100;
        assert!((0..9000).all(|n| set.contains(n) == expect(n)));
        assert!(!set.is_empty() && parse("").unwrap().is_empty());
    }
}
