//! The compressed stream, read by bits.

use std::io::{self, Read};

use crate::error::{Error, Result};

/// Bytes that are read at a time.
const SIZE: usize = 128 * 1024;
/// Bytes behind the end that may be looked at. They are zero once the stream has ended.
const SPARE: usize = 64;
/// Bytes that are there before anything but the data of a block is read, unless the stream ends: more than the description
/// of any block takes.
const AHEAD: usize = 1024;

/// The bytes of the input that are at hand. The size is part of the type so that checks for its end are cheap.
pub type Input = [u8; SIZE + SPARE];

/// The input and the bits that were taken from it and not used.
pub struct Bits<R> {
    reader: R,
    bytes: Box<Input>,
    /// What was not taken yet begins here.
    pub at: usize,
    end: usize,
    ended: bool,
    /// Bits that were taken, the next one lowest. Those above `count` are zero, or those that come next.
    pub buffer: u64,
    pub count: u32,
}

impl<R: Read> Bits<R> {
    pub fn new(reader: R) -> Self {
        #[allow(
            clippy::large_stack_arrays,
            reason = "a stack has room for it for the moment that this takes, if it is there at all"
        )]
        let bytes = Box::new([0; SIZE + SPARE]);
        Self { reader, bytes, at: 0, end: 0, ended: false, buffer: 0, count: 0 }
    }

    /// Sees to it that there are enough bytes for the description of a block, or all that the stream has left.
    pub fn fill(&mut self) -> Result<()> {
        if self.ended || self.end - self.at >= AHEAD {
            return Ok(());
        }
        // Whole bytes are given back: who goes on with bytes wants them, and those that are not there yet look like zero.
        self.at -= (self.count / 8) as usize;
        self.count %= 8;
        self.buffer &= (1 << self.count) - 1;
        self.bytes.copy_within(self.at..self.end, 0);
        (self.end, self.at) = (self.end - self.at, 0);
        while self.end < AHEAD {
            match self.reader.read(&mut self.bytes[self.end..SIZE]) {
                Ok(0) => {
                    self.bytes[self.end..self.end + SPARE].fill(0);
                    self.ended = true;
                    break;
                }
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The input, and where in it bits may be taken from without asking for more.
    pub fn ahead(&self) -> (&Input, usize) {
        // At the end of the stream as many as may be looked at; whoever used them is found out by `check`.
        let last = if self.ended { self.end + 16 } else { self.end.saturating_sub(SPARE) };
        (&self.bytes, last)
    }

    /// Refuses to go on if bits were used that are not there.
    pub fn check(&self) -> Result<()> {
        if self.at > self.end + (self.count / 8) as usize { Err(Error::Truncated) } else { Ok(()) }
    }

    /// Takes bits until there are at least 56.
    pub fn refill(&mut self) {
        (self.buffer, self.count, self.at) = refill(&self.bytes, self.buffer, self.count, self.at);
    }

    /// The next bits, up to 32 of them, which were taken.
    pub fn bits(&mut self, count: u32) -> u32 {
        let bits = (self.buffer & ((1 << count) - 1)) as u32;
        self.buffer >>= count;
        self.count -= count;
        bits
    }

    /// Goes on with whole bytes: those that were taken are given back.
    pub fn align(&mut self) {
        self.at -= (self.count / 8) as usize;
        (self.buffer, self.count) = (0, 0);
    }

    /// The next byte, between whole bytes. None at the end of the stream.
    pub fn byte(&mut self) -> Result<Option<u8>> {
        self.fill()?;
        if self.at >= self.end {
            return Ok(None);
        }
        self.at += 1;
        Ok(Some(self.bytes[self.at - 1]))
    }

    /// Some of the next bytes, between whole bytes, as many as fit. None at the end of the stream.
    pub fn bytes(&mut self, into: &mut [u8]) -> Result<usize> {
        self.fill()?;
        let count = into.len().min(self.end.saturating_sub(self.at));
        into[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Takes bits until there are at least 56. Behind the last bytes there are zeros: [`Bits::check`] finds who used them.
#[inline]
pub fn refill(bytes: &Input, buffer: u64, count: u32, at: usize) -> (u64, u32, usize) {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>).map_or(0, |word| u64::from_le_bytes(*word));
    (buffer | (word << (count & 63)), count | 0b11_1000, at + ((63 - (count & 63)) >> 3) as usize)
}
