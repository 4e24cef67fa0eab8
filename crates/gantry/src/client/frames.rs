//! The two outputs of a process without a terminal, as one stream of frames: `[stream, 0, 0, 0, length in 4 bytes]` and so
//! many bytes.

use bytes::{Buf, Bytes, BytesMut};

/// Which output a frame is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Standard output; also what was typed, where a daemon echoes it.
    Out,
    /// Standard error.
    Err,
}

/// Why a stream cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No such stream.
    #[error("unrecognized stream: {0}")]
    Unknown(u8),
    /// The daemon says that it failed.
    #[error("error from daemon in stream: {0}")]
    Daemon(String),
    /// It ended within a frame.
    #[error("the stream ended within a frame")]
    Cut,
}

/// Takes frames apart, whatever pieces they come in. No frame is kept whole.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: BytesMut,
    /// What is left of the frame that has begun.
    left: u32,
    stream: u8,
    /// Words of the daemon about its failure.
    said: Vec<u8>,
}

/// The longest message of a failure that is kept, in bytes.
const SAID: usize = 4096;
const HEADER: usize = 8;

impl Frames {
    /// Takes bytes that came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next piece of an output, if there is one.
    pub fn next(&mut self) -> Result<Option<(Channel, Bytes)>, FrameError> {
        loop {
            if self.left == 0 {
                if self.stream == 3 && !self.said.is_empty() {
                    return Err(FrameError::Daemon(String::from_utf8_lossy(&self.said).trim().to_owned()));
                }
                if self.buffer.len() < HEADER {
                    return Ok(None);
                }
                self.stream = self.buffer[0];
                self.buffer.advance(4);
                self.left = self.buffer.get_u32();
                if self.stream > 3 {
                    return Err(FrameError::Unknown(self.stream));
                }
                continue;
            }
            if self.buffer.is_empty() {
                return Ok(None);
            }
            let size = self.buffer.len().min(self.left as usize);
            let piece = self.buffer.split_to(size).freeze();
            self.left -= size as u32;
            match self.stream {
                2 => return Ok(Some((Channel::Err, piece))),
                3 => self.said.extend(piece.iter().take(SAID.saturating_sub(self.said.len()))),
                _ => return Ok(Some((Channel::Out, piece))),
            }
        }
    }

    /// Whether the stream may end here.
    pub fn end(&self) -> Result<(), FrameError> {
        if self.left == 0 && self.buffer.is_empty() { Ok(()) } else { Err(FrameError::Cut) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let mut out = vec![stream, 0, 0, 0];
        out.extend_from_slice(&(text.len() as u32).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
        out
    }

    /// What a stream gives when it comes in pieces of so many bytes.
    fn read(bytes: &[u8], piece: usize) -> String {
        let mut frames = Frames::default();
        let mut text = String::new();
        let mut last = None;
        for bytes in bytes.chunks(piece) {
            frames.feed(bytes);
            loop {
                match frames.next() {
                    Ok(Some((channel, bytes))) => {
                        if last != Some(channel) {
                            text.push_str(if channel == Channel::Out { "<o>" } else { "<e>" });
                        }
                        last = Some(channel);
                        text.push_str(&String::from_utf8_lossy(&bytes));
                    }
                    Ok(None) => break,
                    Err(error) => return text + &format!("!{error}"),
                }
            }
        }
        frames.end().map_or_else(|error| text.clone() + &format!("!{error}"), |()| text.clone())
    }

    #[test]
    fn streams() {
        let check = |bytes: &[u8], expect: &str| {
            for piece in [1, 2, 7, 8, 9, 1000] {
                assert_eq!(read(bytes, piece), expect, "in pieces of {piece}");
            }
        };
        let all = [frame(1, "hello"), frame(2, "oh"), frame(1, ""), frame(0, "typed"), frame(1, " more")].concat();
        check(&all, "<o>hello<e>oh<o>typed more");
        check(&[], "");
        check(&all[..all.len() - 1], "<o>hello<e>oh<o>typed mor!the stream ended within a frame");
        check(&all[..3], "!the stream ended within a frame");
        check(&frame(4, "x"), "!unrecognized stream: 4");
        check(
            &[frame(1, "a"), frame(3, "it broke\n"), frame(1, "b")].concat(),
            "<o>a!error from daemon in stream: it broke",
        );
    }
}
