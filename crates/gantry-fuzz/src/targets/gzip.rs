//! Gzip streams. The checksum behind a member tells of nearly all damage, and only when all of it was unpacked.

use std::io::{self, Read as _, Write as _};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use gantry_inflate::Reader;

/// Bytes that are unpacked of one stream: a damaged one may have any number of them.
const MOST: u64 = 8 << 20;

/// Streams with a name, several members, stored blocks, fixed codes, and codes of their own.
pub fn streams() -> Vec<Vec<u8>> {
    let text = b"a text that repeats a text that repeats itself; and 0123456789 aaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let long: Vec<u8> = (0..40_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 27) as u8).collect();
    let pack = |data: &[u8], level: u32| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(data).and_then(|()| encoder.finish()).unwrap_or_default()
    };
    let mut named = GzBuilder::new().filename("name").comment("comment").extra(b"extra".as_slice());
    named = named.mtime(1);
    let mut named = named.write(Vec::new(), Compression::fast());
    let named = named.write_all(text).and_then(|()| named.finish()).unwrap_or_default();
    vec![pack(text, 9), pack(&long, 6), [named, pack(b"stored", 0), pack(b"", 6)].concat()]
}

pub fn stream(bytes: &[u8]) {
    // Any outcome is right that is one.
    drop(io::copy(&mut Reader::new(bytes).take(MOST), &mut io::sink()));
}
