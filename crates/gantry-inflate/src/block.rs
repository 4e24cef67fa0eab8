//! The blocks of a deflate stream, and the window that they are unpacked into.

use std::io::Read;

use crate::bits::{Bits, refill};
use crate::error::{Error, Result};
use crate::table::{self, Alphabet, DISTANCE_BITS, DISTANCES, END, LITERAL, LITERAL_BITS, LITERALS, SECOND, SPECIAL};

/// How far back a distance reaches.
const WINDOW: usize = 32 * 1024;
/// Bytes that are unpacked before they are handed out.
const PIECE: usize = 128 * 1024;
/// Bytes that may be written behind a piece: what one turn of the inner loop gives at most, and what its copies overshoot.
const SPARE: usize = 320;

/// The order in which a block gives the lengths of the codes for lengths (RFC 1951, 3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The size is part of the type so that checks for its end are cheap.
type Output = [u8; SIZE];
const SIZE: usize = WINDOW + PIECE + SPARE;
/// Where there is no room for another turn of the inner loop.
const FULL: usize = WINDOW + PIECE;

/// What has been unpacked.
pub struct Window {
    bytes: Box<Output>,
    /// Where the stream begins, or what is left of it.
    begin: usize,
    /// What was handed out ends here.
    pub given: usize,
    /// What there is ends here.
    pub end: usize,
}

impl Window {
    pub fn new() -> Self {
        #[allow(
            clippy::large_stack_arrays,
            reason = "a stack has room for it for the moment that this takes, if it is there at all"
        )]
        let bytes = Box::new([0; SIZE]);
        Self { bytes, begin: 0, given: 0, end: 0 }
    }

    /// Begins a stream that may not look back.
    pub fn begin(&mut self) {
        self.begin = self.end;
    }

    /// What there is and was not handed out.
    pub fn ready(&self) -> &[u8] {
        &self.bytes[self.given..self.end]
    }

    /// Makes room when everything was handed out.
    pub fn make_room(&mut self) {
        if self.given == self.end && self.end >= WINDOW {
            let keep = (self.end - self.begin).min(WINDOW);
            self.bytes.copy_within(self.end - keep..self.end, 0);
            (self.begin, self.given, self.end) = (0, keep, keep);
        }
    }

    fn is_full(&self) -> bool {
        self.end >= FULL
    }
}

/// Where in a block we are.
enum Stage {
    /// Before one.
    Before,
    /// In one that is not compressed, with so many bytes to come.
    Stored(usize),
    /// In one that has codes.
    Coded,
}

/// Unpacks one deflate stream after another.
pub struct Inflate {
    stage: Stage,
    last: bool,
    literals: Box<[u32; 4096]>,
    distances: Box<[u32; 512]>,
    fixed: bool,
}

/// Why the inner loop ended.
enum Pause {
    Block,
    Input,
    Output,
}

impl Inflate {
    pub fn new() -> Self {
        Self {
            stage: Stage::Before,
            last: false,
            literals: Box::new([0; 4096]),
            distances: Box::new([0; 512]),
            fixed: false,
        }
    }

    /// Unpacks until the window is full, or the stream ends: true.
    pub fn run<R: Read>(&mut self, input: &mut Bits<R>, window: &mut Window) -> Result<bool> {
        loop {
            match self.stage {
                Stage::Before => {
                    if self.last {
                        self.last = false;
                        input.align();
                        return Ok(true);
                    }
                    self.start(input)?;
                }
                Stage::Stored(0) => self.stage = Stage::Before,
                Stage::Stored(left) => {
                    if window.is_full() {
                        return Ok(false);
                    }
                    let room = (FULL.saturating_sub(window.end)).min(left);
                    let count = input.bytes(&mut window.bytes[window.end..window.end + room])?;
                    if count == 0 {
                        return Err(Error::Truncated);
                    }
                    window.end += count;
                    self.stage = Stage::Stored(left - count);
                }
                Stage::Coded => {
                    input.fill()?;
                    let pause = codes(&self.literals, &self.distances, input, window)?;
                    input.check()?;
                    match pause {
                        Pause::Block => self.stage = Stage::Before,
                        Pause::Input => {}
                        Pause::Output => return Ok(false),
                    }
                }
            }
        }
    }

    /// Reads how a block begins.
    fn start<R: Read>(&mut self, input: &mut Bits<R>) -> Result<()> {
        input.fill()?;
        input.refill();
        self.last = input.bits(1) == 1;
        match input.bits(2) {
            0 => {
                input.align();
                let mut sizes = [0; 4];
                for byte in &mut sizes {
                    *byte = input.byte()?.ok_or(Error::Truncated)?;
                }
                let [a, b, c, d] = sizes;
                if u16::from_le_bytes([a, b]) != !u16::from_le_bytes([c, d]) {
                    return Err(Error::Data("the size of a block is not what it says twice"));
                }
                self.stage = Stage::Stored(usize::from(u16::from_le_bytes([a, b])));
                return Ok(());
            }
            1 => self.fixed()?,
            2 => self.dynamic(input)?,
            _ => return Err(Error::Data("a block is of a kind that there is not")),
        }
        self.stage = Stage::Coded;
        input.check()
    }

    /// The codes that need no description (RFC 1951, 3.2.6).
    fn fixed(&mut self) -> Result<()> {
        if self.fixed {
            return Ok(());
        }
        let mut lengths = [8; LITERALS];
        lengths[144..256].fill(9);
        lengths[256..280].fill(7);
        table::build(&mut self.literals[..], LITERAL_BITS, Alphabet::Literals, &lengths)?;
        table::build(&mut self.distances[..], DISTANCE_BITS, Alphabet::Distances, &[5; DISTANCES])?;
        self.fixed = true;
        Ok(())
    }

    /// Reads the codes of a block (RFC 1951, 3.2.7).
    fn dynamic<R: Read>(&mut self, input: &mut Bits<R>) -> Result<()> {
        self.fixed = false;
        let (literals, distances) = (input.bits(5) as usize + 257, input.bits(5) as usize + 1);
        if literals > 286 || distances > 30 {
            return Err(Error::Data("a block has more codes than there can be"));
        }
        let mut lengths = [0; 19];
        let count = input.bits(4) as usize + 4;
        for &symbol in &ORDER[..count] {
            input.refill();
            lengths[symbol] = input.bits(3) as u8;
        }
        let mut table = [0; 128];
        table::build(&mut table, 7, Alphabet::Lengths, &lengths)?;
        let mut lengths = [0; LITERALS + DISTANCES];
        let (mut at, total) = (0, literals + distances);
        while at < total {
            input.refill();
            let entry = table[(input.buffer & 127) as usize];
            if entry & SPECIAL != 0 {
                return Err(Error::Data("a code of a block's codes is none"));
            }
            input.bits(entry & 0xff);
            let (value, times) = match (entry >> 16) as u8 {
                16 if at == 0 => return Err(Error::Data("a length of a code repeats the one before the first")),
                16 => (lengths[at - 1], 3 + input.bits(2)),
                17 => (0, 3 + input.bits(3)),
                18 => (0, 11 + input.bits(7)),
                length => (length, 1),
            };
            let until = at + times as usize;
            if until > total {
                return Err(Error::Data("the lengths of a block's codes go on behind the last code"));
            }
            lengths[at..until].fill(value);
            at = until;
        }
        if lengths[256] == 0 {
            return Err(Error::Data("a block has no code for its end"));
        }
        table::build(&mut self.literals[..], LITERAL_BITS, Alphabet::Literals, &lengths[..literals])?;
        table::build(&mut self.distances[..], DISTANCE_BITS, Alphabet::Distances, &lengths[literals..total])
    }
}

/// The inner loop: unpacks codes until the block ends, or there is no room, or too little input.
fn codes<R: Read>(
    literals: &[u32; 4096],
    distances: &[u32; 512],
    input: &mut Bits<R>,
    window: &mut Window,
) -> Result<Pause> {
    const LITERAL_MASK: u64 = (1 << LITERAL_BITS) - 1;
    const DISTANCE_MASK: u64 = (1 << DISTANCE_BITS) - 1;
    let (mut buffer, mut count, mut at) = (input.buffer, input.count, input.at);
    let (bytes, last) = input.ahead();
    let begin = window.begin;
    let out = &mut *window.bytes;
    let mut end = window.end;
    (buffer, count, at) = refill(bytes, buffer, count, at);
    let mut entry = literals[(buffer & LITERAL_MASK) as usize];
    let result = loop {
        // There are 56 bits at hand here, and the entry is that of the first of them.
        if end >= FULL || at >= last {
            break Ok(if end >= FULL { Pause::Output } else { Pause::Input });
        }
        // At most 11 bits each, so that there are enough left for a length.
        if entry & LITERAL != 0 {
            (buffer, count) = pass(buffer, count, entry);
            out[end] = (entry >> 16) as u8;
            end += 1;
            entry = literals[(buffer & LITERAL_MASK) as usize];
            if entry & LITERAL != 0 {
                (buffer, count) = pass(buffer, count, entry);
                out[end] = (entry >> 16) as u8;
                end += 1;
                entry = literals[(buffer & LITERAL_MASK) as usize];
                if entry & LITERAL != 0 {
                    (buffer, count) = pass(buffer, count, entry);
                    out[end] = (entry >> 16) as u8;
                    end += 1;
                    (buffer, count, at) = refill(bytes, buffer, count, at);
                    entry = literals[(buffer & LITERAL_MASK) as usize];
                    continue;
                }
            }
        }
        if entry & SPECIAL != 0 {
            if entry & SECOND != 0 {
                (buffer, count) = pass(buffer, count, entry);
                entry = literals[second(entry, buffer) & 4095];
                if entry & LITERAL != 0 {
                    (buffer, count) = pass(buffer, count, entry);
                    out[end] = (entry >> 16) as u8;
                    end += 1;
                    (buffer, count, at) = refill(bytes, buffer, count, at);
                    entry = literals[(buffer & LITERAL_MASK) as usize];
                    continue;
                }
            }
            if entry & SPECIAL != 0 {
                (buffer, count) = pass(buffer, count, entry);
                break if entry & END != 0 { Ok(Pause::Block) } else { Err(Error::Data("a code is none")) };
            }
        }
        let length = value(entry, buffer);
        (buffer, count) = pass(buffer, count, entry);
        // A distance takes 28 bits at most. Seldom are there fewer.
        if count < 28 {
            (buffer, count, at) = refill(bytes, buffer, count, at);
        }
        entry = distances[(buffer & DISTANCE_MASK) as usize];
        if entry & SPECIAL != 0 {
            if entry & SECOND != 0 {
                (buffer, count) = pass(buffer, count, entry);
                entry = distances[second(entry, buffer) & 511];
            }
            if entry & SPECIAL != 0 {
                break Err(Error::Data("a code for a distance is none"));
            }
        }
        let distance = value(entry, buffer);
        (buffer, count) = pass(buffer, count, entry);
        // The next code is looked up while the bytes are copied.
        (buffer, count, at) = refill(bytes, buffer, count, at);
        entry = literals[(buffer & LITERAL_MASK) as usize];
        if distance > end - begin {
            break Err(Error::Data("a distance reaches behind the beginning"));
        }
        copy(out, end, distance, length);
        end += length;
    };
    (input.buffer, input.count, input.at, window.end) = (buffer, count, at, end);
    result
}

/// Passes the bits of an entry.
#[inline]
fn pass(buffer: u64, count: u32, entry: u32) -> (u64, u32) {
    (buffer >> (entry & 63), count.wrapping_sub(entry & 0xff))
}

/// The value of a length or distance: its smallest, and what its extra bits say.
#[inline]
fn value(entry: u32, buffer: u64) -> usize {
    let extra = (buffer & ((1 << (entry & 63)) - 1)) >> ((entry >> 8) & 15);
    (entry >> 16) as usize + extra as usize
}

/// Where in its second table an entry lies.
#[inline]
fn second(entry: u32, buffer: u64) -> usize {
    (entry >> 16) as usize + (buffer & ((1 << ((entry >> 8) & 15)) - 1)) as usize
}

/// Copies what was unpacked before. Up to 31 bytes behind it are overwritten.
#[inline]
fn copy(out: &mut Output, end: usize, distance: usize, length: usize) {
    if distance >= 16 {
        let (mut from, mut to) = (end - distance, end);
        sixteen(out, from, to);
        sixteen(out, from + 16, to + 16);
        while to + 32 < end + length {
            (from, to) = (from + 32, to + 32);
            sixteen(out, from, to);
            sixteen(out, from + 16, to + 16);
        }
    } else if distance == 1 {
        let byte = out[end - 1];
        out[end..end + length].fill(byte);
    } else {
        repeat(out, end, distance, length);
    }
}

#[inline]
fn sixteen(out: &mut Output, from: usize, to: usize) {
    out.copy_within(from..from + 16, to);
}

/// Copies what overlaps itself.
fn repeat(out: &mut Output, end: usize, distance: usize, length: usize) {
    let from = end - distance;
    let (mut done, mut have) = (0, distance);
    // What there is of the pattern doubles each time.
    while done < length {
        let count = have.min(length - done);
        out.copy_within(from..from + count, end + done);
        done += count;
        have += count;
    }
}
