//! Where inodes are put: gathered to pieces of a mebibyte, which are written between the data of files.
//!
//! An inode with its attributes and the rest of its data, if that lies with it, never straddles a block unless it is
//! longer than one. What is left of a block that the next one did not fit into is kept in mind, for a smaller one.

use crate::error::{Error, Result};
use crate::format::{BLOCK, SLOT};
use crate::output::Output;
use std::io::{Seek, Write};

/// Bytes of a piece.
const PIECE: usize = 1 << 20;
/// Remainders of blocks that are kept in mind.
const GAPS: usize = 64;

/// Places within one piece.
#[derive(Debug, Default)]
pub struct Packer {
    end: usize,
    /// Where they begin and end; each within one block.
    gaps: Vec<(usize, usize)>,
}

impl Packer {
    /// A place for so many bytes; nothing if the piece is full.
    pub fn place(&mut self, length: usize) -> Option<usize> {
        let length = length.next_multiple_of(SLOT);
        if let Some(gap) = self.gaps.iter().position(|(start, end)| end - start >= length) {
            let at = self.gaps[gap].0;
            self.gaps[gap].0 += length;
            if self.gaps[gap].0 == self.gaps[gap].1 {
                self.gaps.remove(gap);
            }
            return Some(at);
        }
        let room = self.end.next_multiple_of(BLOCK) - self.end;
        let at = if length <= room { self.end } else { self.end + room };
        if at + length > PIECE {
            return None;
        }
        if at > self.end {
            if self.gaps.len() == GAPS {
                self.gaps.remove(0);
            }
            self.gaps.push((self.end, at));
        }
        self.end = at + length;
        Some(at)
    }

    /// Bytes of the piece, in whole blocks.
    pub fn length(&self) -> usize {
        self.end.next_multiple_of(BLOCK)
    }
}

/// The inodes of everything but directories.
#[derive(Debug, Default)]
pub struct Inodes {
    packer: Packer,
    piece: Vec<u8>,
    /// First blocks of the pieces that are written.
    starts: Vec<u32>,
}

impl Inodes {
    /// Puts an inode, with what lies behind it, somewhere. What is returned is a place among all pieces, counted in slots:
    /// [`Self::nid`] makes a number of it when its piece is written.
    pub fn put<W: Write + Seek>(&mut self, parts: [&[u8]; 3], out: &mut Output<W>) -> Result<u32> {
        let length = parts.iter().map(|part| part.len()).sum();
        let mut at = self.packer.place(length);
        if at.is_none() {
            self.write(out)?;
            at = self.packer.place(length);
        }
        let too_large = Error::TooLarge { what: "the number of inodes" };
        let Some(at) = at else { return Err(too_large) };
        let place = self.starts.len() as u64 * (PIECE / SLOT) as u64 + (at / SLOT) as u64;
        let place = u32::try_from(place).map_err(|_| too_large)?;
        if self.piece.len() < at + length {
            self.piece.resize(at + length, 0);
        }
        let mut at = at;
        for part in parts {
            self.piece[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Ok(place)
    }

    /// Writes the piece that was begun.
    pub fn write<W: Write + Seek>(&mut self, out: &mut Output<W>) -> Result<()> {
        if !self.piece.is_empty() {
            self.starts.push(out.block(PIECE as u64, "the place of an inode")?);
            self.piece.resize(self.packer.length(), 0);
            out.write(&self.piece)?;
            self.piece.clear();
            self.packer = Packer::default();
        }
        Ok(())
    }

    /// The number of an inode whose piece is written.
    pub fn nid(&self, place: u32) -> u64 {
        let slots = (PIECE / SLOT) as u32;
        u64::from(self.starts[(place / slots) as usize]) * (BLOCK / SLOT) as u64 + u64::from(place % slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let mut packer = Packer::default();
        let mut check = |length: usize, expect: Option<usize>| assert_eq!(packer.place(length), expect, "{length}");
        check(64, Some(0));
        check(100, Some(64));
        // Not straddling a block, and what is left of it goes to the next ones that fit.
        check(4000, Some(4096));
        check(65, Some(192));
        check(4000, Some(8192));
        check(96, Some(288));
        check(3712, Some(384));
        check(96, Some(8096));
        // Longer than a block: from the beginning of one.
        check(5000, Some(12288));
        check(64, Some(12192));
        check(64, Some(17312));
        check(1 << 20, None);
    }
}
