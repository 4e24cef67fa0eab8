//! The image as it grows: whole blocks, one after the other.

use crate::error::{Error, Result};
use crate::format::BLOCK;
use crate::sum::Fingerprint;
use std::io::{BufWriter, Seek, SeekFrom, Write};

/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 20;
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// What is written to, with its length so far.
#[derive(Debug)]
pub struct Output<W: Write + Seek> {
    inner: BufWriter<W>,
    position: u64,
    fingerprint: Fingerprint,
}

impl<W: Write + Seek> Output<W> {
    /// Begins with an empty first block.
    pub fn new(out: W) -> Result<Self> {
        let inner = BufWriter::with_capacity(BUFFER, out);
        let mut output = Self { inner, position: 0, fingerprint: Fingerprint::new() };
        output.inner.seek(SeekFrom::Start(0))?;
        output.write(&ZEROS)?;
        Ok(output)
    }

    /// How many bytes there are so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next block, after what was written so far is filled up to a whole one. `bytes` more must fit.
    pub fn block(&mut self, bytes: u64, what: &'static str) -> Result<u32> {
        self.align()?;
        let block = u32::try_from(self.position / BLOCK as u64).map_err(|_| Error::TooLarge { what })?;
        let end = self.position.checked_add(bytes).map(|end| end.div_ceil(BLOCK as u64));
        // The last number means that there is no block.
        if end.is_none_or(|end| end >= u64::from(u32::MAX)) {
            return Err(Error::TooLarge { what });
        }
        Ok(block)
    }

    /// Fills the last block up with zeros.
    pub fn align(&mut self) -> Result<()> {
        let rest = (self.position.wrapping_neg() % BLOCK as u64) as usize;
        self.inner.write_all(&ZEROS[..rest])?;
        self.position += rest as u64;
        Ok(())
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.fingerprint.update(bytes);
        self.inner.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Zeros, which take no space where they fill many blocks. Whatever comes last is written, so that the image has its
    /// full length.
    pub fn hole(&mut self, length: u64) -> Result<()> {
        self.fingerprint.update(&length.to_le_bytes());
        let until = self.position + length;
        let blank = (until - 1) / BLOCK as u64 * BLOCK as u64;
        if blank > self.position.next_multiple_of(BLOCK as u64) + BUFFER as u64 {
            self.align()?;
            self.inner.seek(SeekFrom::Start(blank))?;
            self.position = blank;
        }
        while self.position < until {
            let count = (until - self.position).min(BLOCK as u64);
            self.inner.write_all(&ZEROS[..count as usize])?;
            self.position += count;
        }
        Ok(())
    }

    /// Something that is not written itself, but changes what is.
    pub fn note(&mut self, bytes: &[u8]) {
        self.fingerprint.update(bytes);
    }

    pub fn uuid(&self) -> [u8; 16] {
        self.fingerprint.uuid()
    }

    /// Changes what was written before.
    pub fn patch(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.inner.seek(SeekFrom::Start(at))?;
        self.inner.write_all(bytes)?;
        Ok(())
    }

    /// The first block, which makes an image of it, after everything else.
    pub fn finish(mut self, first: &[u8; BLOCK]) -> Result<W> {
        self.inner.flush()?;
        self.patch(0, first)?;
        self.inner.flush()?;
        let out = self.inner.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        Ok(out)
    }
}
