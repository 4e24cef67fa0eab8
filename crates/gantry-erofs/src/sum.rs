//! Sums over what is written: the checksum that the superblock has, and a name for the whole.

/// The checksum of the superblock: CRC-32C as the kernel starts it, and without the inversion at its end.
pub fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |sum, byte| (sum >> 8) ^ TABLE[usize::from(sum as u8 ^ byte)])
}

static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut sum = index as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
            bit += 1;
        }
        table[index] = sum;
        index += 1;
    }
    table
}

/// Names an image by what was written into it, so that the same input makes the same image.
///
/// Fast, and good against chance only: whoever must be sure of the content has a digest of the layer.
#[derive(Clone, Debug)]
pub struct Fingerprint {
    low: u64,
    high: u64,
}

const ODD: [u64; 4] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93];

impl Fingerprint {
    pub fn new() -> Self {
        Self { low: ODD[0], high: ODD[1] }
    }

    /// Goes on with these bytes. Where a piece ends is part of what is named.
    pub fn update(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<16>();
        for chunk in chunks {
            self.mix(u128::from_le_bytes(*chunk));
        }
        let mut last = [0; 16];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u128::from_le_bytes(last));
        self.mix(bytes.len() as u128);
    }

    #[inline]
    fn mix(&mut self, word: u128) {
        let (low, high) = (word as u64, (word >> 64) as u64);
        self.low = fold(self.low ^ low ^ ODD[2], high ^ ODD[0]).wrapping_add(self.low.rotate_left(23));
        self.high = fold(self.high ^ high ^ ODD[3], low ^ ODD[1]).wrapping_add(self.high.rotate_left(41));
    }

    /// The name, as a UUID of version 8: one that follows a rule of its own (RFC 9562, section 5.8).
    pub fn uuid(&self) -> [u8; 16] {
        let last = fold(self.low ^ self.high.rotate_left(32), ODD[0]);
        let mut uuid = (u128::from(self.low ^ last) | u128::from(self.high ^ last) << 64).to_le_bytes();
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        uuid
    }
}

/// Both halves of a product, folded into one.
#[inline]
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums() {
        // The check value of CRC-32C, and that of nothing, both before the inversion at the end.
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(!crc32c(b""), 0);
    }

    #[test]
    fn names_differ() {
        let name = |pieces: &[&[u8]]| {
            let mut fingerprint = Fingerprint::new();
            for piece in pieces {
                fingerprint.update(piece);
            }
            fingerprint.uuid()
        };
        let texts: [&[&[u8]]; 8] =
            [&[], &[b""], &[b"\0"], &[b"a"], &[b"a", b""], &[b"a\0"], &[&[0; 16]], &[b"0123456789abcdef"]];
        for (index, text) in texts.iter().enumerate() {
            assert_eq!(name(text), name(text));
            assert_eq!((name(text)[6] >> 4, name(text)[8] >> 6), (8, 2));
            for other in &texts[..index] {
                assert_ne!(name(text), name(other), "{text:?} {other:?}");
            }
        }
    }
}
