//! Members of a gzip stream: their headers, and the checks behind them.

use std::io::{self, BufRead, Read};

use crc32fast::Hasher;

use crate::bits::Bits;
use crate::block::{Inflate, Window};
use crate::error::{Error, Result};

/// Flags of a header (RFC 1952, 2.3.1).
const HEADER_CHECK: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// Bytes of a name or comment in a header.
const TEXT: usize = 1 << 20;

/// Reads the plain bytes of a gzip stream of any number of members. An empty stream has none.
///
/// Each piece that is given was unpacked whole, and the checks of a member are made before its last piece is given.
pub struct Reader<R> {
    input: Bits<R>,
    inflate: Inflate,
    window: Window,
    check: Hasher,
    /// Bytes of this member.
    size: u32,
    in_member: bool,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Begins to read.
    pub fn new(reader: R) -> Self {
        Self {
            input: Bits::new(reader),
            inflate: Inflate::new(),
            window: Window::new(),
            check: Hasher::new(),
            size: 0,
            in_member: false,
            ended: false,
        }
    }

    /// Unpacks a piece, if there is none.
    fn advance(&mut self) -> Result<()> {
        while self.window.given == self.window.end && !self.ended {
            if !self.in_member && !self.begin()? {
                self.ended = true;
                break;
            }
            self.window.make_room();
            let from = self.window.end;
            let ended = self.inflate.run(&mut self.input, &mut self.window)?;
            let new = self.window.ready();
            debug_assert_eq!(self.window.end - from, new.len(), "everything before was given");
            self.check.update(new);
            self.size = self.size.wrapping_add(new.len() as u32);
            if ended {
                self.finish()?;
            }
        }
        Ok(())
    }

    /// Reads the header of a member; false at the end of the stream.
    fn begin(&mut self) -> Result<bool> {
        let Some(first) = self.input.byte()? else { return Ok(false) };
        let mut header = [first; 10];
        for byte in &mut header[1..] {
            *byte = self.next()?;
        }
        let [a, b, method, flags, ..] = header;
        if [a, b] != [0x1f, 0x8b] {
            return Err(Error::Header("a member does not begin with 1f 8b"));
        }
        if method != 8 {
            return Err(Error::Header("the method of compression is not deflate"));
        }
        if flags & RESERVED != 0 {
            return Err(Error::Header("flags are set that mean nothing"));
        }
        let mut check = Hasher::new();
        check.update(&header);
        if flags & EXTRA != 0 {
            let sizes = [self.next()?, self.next()?];
            check.update(&sizes);
            for _ in 0..u16::from_le_bytes(sizes) {
                check.update(&[self.next()?]);
            }
        }
        for text in [NAME, COMMENT] {
            if flags & text != 0 {
                self.text(&mut check)?;
            }
        }
        if flags & HEADER_CHECK != 0 {
            let there = u16::from_le_bytes([self.next()?, self.next()?]);
            if there != check.finalize() as u16 {
                return Err(Error::Check("checksum of the header"));
            }
        }
        self.window.begin();
        (self.check, self.size, self.in_member) = (Hasher::new(), 0, true);
        Ok(true)
    }

    /// Passes a text that ends with zero.
    fn text(&mut self, check: &mut Hasher) -> Result<()> {
        for _ in 0..TEXT {
            let byte = self.next()?;
            check.update(&[byte]);
            if byte == 0 {
                return Ok(());
            }
        }
        Err(Error::Header("a name or comment has no end"))
    }

    /// Reads what lies behind a member.
    fn finish(&mut self) -> Result<()> {
        let mut numbers = [0_u32; 2];
        for number in &mut numbers {
            let bytes = [self.next()?, self.next()?, self.next()?, self.next()?];
            *number = u32::from_le_bytes(bytes);
        }
        let [check, size] = numbers;
        if check != std::mem::take(&mut self.check).finalize() {
            return Err(Error::Check("checksum"));
        }
        if size != self.size {
            return Err(Error::Check("size"));
        }
        self.in_member = false;
        Ok(())
    }

    fn next(&mut self) -> Result<u8> {
        self.input.byte()?.ok_or(Error::Truncated)
    }
}

impl<R: Read> BufRead for Reader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.advance()?;
        Ok(self.window.ready())
    }

    fn consume(&mut self, count: usize) {
        self.window.given += count.min(self.window.ready().len());
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let ready = self.fill_buf()?;
        let count = ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&ready[..count]);
        self.consume(count);
        Ok(count)
    }
}
