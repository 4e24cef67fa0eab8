//! The keys that leave a container without ending it.

/// `ctrl-p,ctrl-q`.
pub const DEFAULT: [u8; 2] = [16, 17];

/// Reads a sequence such as `ctrl-p,ctrl-q` or `a,ctrl-@`.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    text.split(',')
        .map(|key| {
            let unknown = || format!("unknown character: '{key}'");
            if key.len() == 1 {
                return Ok(key.as_bytes()[0]);
            }
            match key.strip_prefix("ctrl-").map(str::as_bytes) {
                Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
                Some(b"@") => Ok(0),
                Some([sign @ (b'[' | b'\\' | b']' | b'^' | b'_')]) => Ok(sign - b'[' + 27),
                _ if key == "DEL" => Ok(127),
                _ => Err(unknown()),
            }
        })
        .collect()
}

/// Watches what is typed for the sequence, and holds back what may be its beginning.
#[derive(Debug)]
pub struct Watch {
    keys: Vec<u8>,
    matched: usize,
}

impl Watch {
    /// A watch for a sequence; an empty one is never typed.
    pub const fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// What is passed on of what was typed, and whether the sequence is complete.
    pub fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(typed.len());
        if self.keys.is_empty() {
            out.extend_from_slice(typed);
            return (out, false);
        }
        for &byte in typed {
            if byte != self.keys[self.matched] {
                out.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (out, true);
                }
            } else {
                out.push(byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences() {
        let check = |text: &str, expect: Result<&[u8], &str>| {
            let got = parse(text);
            assert_eq!(got.as_deref().map_err(String::as_str), expect, "{text}");
        };
        check("ctrl-p,ctrl-q", Ok(&DEFAULT));
        check("a,b,ctrl-@,ctrl-_,ctrl-[,DEL", Ok(&[97, 98, 0, 31, 27, 127]));
        check("ctrl-", Err("unknown character: 'ctrl-'"));
        check("ctrl-P", Err("unknown character: 'ctrl-P'"));
        check("", Err("unknown character: ''"));
    }

    #[test]
    fn watching() {
        let check = |pieces: &[&[u8]], expect: &[u8], left: bool| {
            let mut watch = Watch::new(DEFAULT.to_vec());
            let mut out = Vec::new();
            let mut done = false;
            for piece in pieces {
                let (passed, complete) = watch.pass(piece);
                out.extend(passed);
                done |= complete;
            }
            assert_eq!((out.as_slice(), done), (expect, left), "{pieces:?}");
        };
        check(&[b"ls\n"], b"ls\n", false);
        check(&[b"a\x10", b"\x11"], b"a", true);
        check(&[b"\x10\x11rest"], b"", true);
        check(&[b"\x10", b"b"], b"\x10b", false);
        check(&[b"\x10\x10\x11"], b"\x10", true);
        check(&[b"\x11\x10"], b"\x11", false);
        assert_eq!(Watch::new(Vec::new()).pass(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
