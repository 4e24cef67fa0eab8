//! Tables that tell for the next bits of the input which code it is and what follows.
//!
//! An entry is one number:
//!
//! | bits | a literal | a length or a distance | a way to a second table | end of block, no code |
//! |---|---|---|---|---|
//! | 0-7 | bits to pass | bits to pass, the extra ones counted | bits to pass | bits to pass |
//! | 8-11 | | bits of the code alone | bits of the second table | |
//! | 13-15 | | | `SPECIAL`, `SECOND` | `SPECIAL`, `END` |
//! | 16-30 | the byte | the smallest value | where it begins | |
//! | 31 | `LITERAL` | | | |

use crate::error::{Error, Result};

/// The entry is a byte of the output.
pub const LITERAL: u32 = 1 << 31;
/// The entry is not a length or distance.
pub const SPECIAL: u32 = 1 << 15;
/// A second table has the entry. With [`SPECIAL`].
pub const SECOND: u32 = 1 << 14;
/// The block ends. With [`SPECIAL`].
pub const END: u32 = 1 << 13;

/// Bits that index the table of literals and lengths.
pub const LITERAL_BITS: u32 = 11;
/// Bits that index the table of distances.
pub const DISTANCE_BITS: u32 = 8;
/// The longest code.
const LONGEST: usize = 15;

/// Codes of literals, lengths and the end.
pub const LITERALS: usize = 288;
/// Codes of distances.
pub const DISTANCES: usize = 32;

/// Which codes a table is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Alphabet {
    /// The lengths of the codes of a block.
    Lengths,
    /// Bytes, lengths and the end.
    Literals,
    /// Distances.
    Distances,
}

/// Smallest length and its extra bits of the codes from 257 (RFC 1951, 3.2.5).
const LENGTH: [(u32, u32); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// What a code means, without its own length: value, flags, and how many extra bits follow.
fn meaning(alphabet: Alphabet, symbol: usize) -> (u32, u32) {
    match (alphabet, symbol) {
        (Alphabet::Lengths, _) => ((symbol as u32) << 16, 0),
        (Alphabet::Literals, 0..=255) => (LITERAL | ((symbol as u32) << 16), 0),
        (Alphabet::Literals, 256) => (SPECIAL | END, 0),
        (Alphabet::Literals, 257..=285) => {
            let (base, extra) = LENGTH[symbol - 257];
            (base << 16, extra)
        }
        (Alphabet::Distances, 0..=3) => ((symbol as u32 + 1) << 16, 0),
        (Alphabet::Distances, 4..=29) => {
            let extra = symbol as u32 / 2 - 1;
            ((((2 + symbol as u32 % 2) << extra) + 1) << 16, extra)
        }
        // 286 and 287, and the distances 30 and 31, take part in codes and may not occur.
        _ => (SPECIAL, 0),
    }
}

/// Fills a table of `bits` and its second tables, by the lengths of the codes of all symbols.
pub fn build(table: &mut [u32], bits: u32, alphabet: Alphabet, lengths: &[u8]) -> Result<()> {
    let mut counts = [0_usize; LONGEST + 1];
    for &length in lengths {
        counts[usize::from(length)] += 1;
    }
    counts[0] = 0;
    // Codes of the shortest length come first, those of one length in the order of their symbols.
    let (mut offsets, mut used, mut left) = ([0_usize; LONGEST + 2], 0, 1_i32 << LONGEST);
    for length in 1..=LONGEST {
        offsets[length] = used;
        used += counts[length];
        left -= (counts[length] as i32) << (LONGEST - length);
    }
    if left < 0 {
        return Err(Error::Data("a block has more codes than there can be"));
    }
    // A single code may leave the other half unused, and distances may not be needed at all.
    if left > 0 && (alphabet == Alphabet::Lengths || used > 1 || (used == 1 && counts[1] == 0)) {
        return Err(Error::Data("a block has fewer codes than it needs"));
    }
    let mut sorted = [0_u16; LITERALS];
    for (symbol, &length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
        sorted[offsets[usize::from(length)]] = symbol as u16;
        offsets[usize::from(length)] += 1;
    }
    table[..1 << bits].fill(SPECIAL | 1);
    fill(table, bits, alphabet, &counts, &sorted[..used])
}

/// Gives each code its entries: codes are numbered as the format says, and indexed with their first bit lowest.
fn fill(table: &mut [u32], bits: u32, alphabet: Alphabet, counts: &[usize; 16], sorted: &[u16]) -> Result<()> {
    let (mut code, mut next) = (0_u32, 1 << bits);
    // The second table that is being filled: the first bits of its codes, where it begins, and its own bits.
    let mut second: Option<(u32, usize, u32)> = None;
    let mut symbols = sorted.iter();
    for length in 1..=LONGEST as u32 {
        let mut rest = counts[length as usize];
        while rest > 0 {
            let Some(&symbol) = symbols.next() else { break };
            let (value, extra) = meaning(alphabet, usize::from(symbol));
            let index = (code.reverse_bits() >> (32 - length)) as usize;
            if length <= bits {
                let entry = value | if value & (LITERAL | SPECIAL) == 0 { length << 8 } else { 0 } | (length + extra);
                table[..1 << bits].iter_mut().skip(index).step_by(1 << length).for_each(|place| *place = entry);
            } else {
                let first = index as u32 & ((1 << bits) - 1);
                if second.is_none_or(|(other, ..)| other != first) {
                    let own = own_bits(bits, length, rest, counts);
                    if next + (1 << own) > table.len() {
                        return Err(Error::Data("a block has more codes than there can be"));
                    }
                    table[first as usize] = (next as u32) << 16 | SPECIAL | SECOND | own << 8 | bits;
                    table[next..next + (1 << own)].fill(SPECIAL | 1);
                    second = Some((first, next, own));
                    next += 1 << own;
                }
                if let Some((_, begin, own)) = second {
                    let length = length - bits;
                    let entry =
                        value | if value & (LITERAL | SPECIAL) == 0 { length << 8 } else { 0 } | (length + extra);
                    let places = table[begin..begin + (1 << own)].iter_mut();
                    places.skip(index >> bits).step_by(1 << length).for_each(|place| *place = entry);
                }
            }
            rest -= 1;
            code += 1;
        }
        code <<= 1;
    }
    Ok(())
}

/// The bits that a second table needs whose first code has `length`: until its codes fill it.
fn own_bits(bits: u32, length: u32, rest: usize, counts: &[usize; 16]) -> u32 {
    let (mut own, mut room) = (length - bits, (1_usize << (length - bits)).saturating_sub(rest));
    while room > 0 && (bits + own) < LONGEST as u32 {
        own += 1;
        room = (room << 1).saturating_sub(counts[(bits + own) as usize]);
    }
    own
}
