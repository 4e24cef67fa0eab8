//! Documents that come one after the other, as events and progress do.

use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;

use crate::failure::{Failure, Outcome};
use crate::template::Value;

/// The longest document of a stream, in bytes.
const MAX: usize = 4 << 20;

/// A stream of documents.
pub struct Lines {
    body: Incoming,
    parts: Parts,
}

impl Lines {
    /// The documents of an answer.
    pub fn of(answer: Response<Incoming>) -> Self {
        Self { body: answer.into_body(), parts: Parts::default() }
    }

    /// The next document; none at the end.
    pub async fn next(&mut self) -> Outcome<Option<Value>> {
        loop {
            if let Some(text) = self.parts.next()? {
                let value = serde_json::from_slice(&text);
                return value
                    .map(Some)
                    .map_err(|error| Failure::new(format!("what the daemon tells is not JSON: {error}")));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| Failure::new(format!("the daemon's answer was cut off: {error}")))?;
            if let Some(data) = frame.data_ref() {
                self.parts.feed(data);
            }
        }
    }
}

/// Finds where a document ends: where its braces close, outside of its texts.
#[derive(Debug, Default)]
struct Parts {
    buffer: Vec<u8>,
    /// How far it was looked through.
    at: usize,
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl Parts {
    fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn next(&mut self) -> Outcome<Option<Vec<u8>>> {
        while let Some(&byte) = self.buffer.get(self.at) {
            self.at += 1;
            if self.quoted {
                let escaped = self.escaped;
                self.escaped = byte == b'\\' && !escaped;
                if byte == b'"' && !escaped {
                    self.quoted = false;
                }
                continue;
            }
            match byte {
                b'"' => self.quoted = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        let rest = self.buffer.split_off(self.at);
                        self.at = 0;
                        return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
                    }
                }
                _ => {}
            }
        }
        if self.buffer.len() > MAX {
            return Err(Failure::new(format!("what the daemon tells has more than {MAX} bytes at once")));
        }
        if self.depth == 0 && !self.quoted && self.buffer.iter().all(u8::is_ascii_whitespace) {
            self.buffer.clear();
            self.at = 0;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_in_any_pieces() {
        let text = "{\"a\":\"}\\\"{\"}\r\n{\"b\":[1,{\"c\":\"\\\\\"}]} {}\n\n[2]";
        let expect = ["{\"a\":\"}\\\"{\"}", "{\"b\":[1,{\"c\":\"\\\\\"}]}", "{}", "[2]"];
        for piece in [1, 2, 3, 7, 100] {
            let mut parts = Parts::default();
            let mut found = Vec::new();
            for bytes in text.as_bytes().chunks(piece) {
                parts.feed(bytes);
                while let Some(text) = parts.next().unwrap() {
                    found.push(String::from_utf8(text).unwrap().trim().to_owned());
                }
            }
            assert_eq!(found, expect, "in pieces of {piece}");
        }
    }

    #[test]
    fn no_end() {
        let mut parts = Parts::default();
        parts.feed(&vec![b'['; MAX + 1]);
        assert!(parts.next().is_err());
    }
}
