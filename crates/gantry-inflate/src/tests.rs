//! What other programs pack, what no program packs, and damage.

use std::io::{Read, Write as _};

use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression, Crc};

use super::{Error, Reader};

/// A generator of numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Bytes of many kinds: noise, runs, patterns, text of few letters, and parts of what was before.
    fn bytes(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < size {
            let count = self.below(3000) as usize + 1;
            match self.below(6) {
                0 => bytes.extend((0..count).map(|_| self.next() as u8)),
                1 => bytes.extend(std::iter::repeat_n(self.next() as u8, count)),
                2 => {
                    let pattern: Vec<u8> = (0..=self.below(40)).map(|_| self.next() as u8).collect();
                    bytes.extend(pattern.iter().copied().cycle().take(count));
                }
                3 => bytes.extend((0..count).map(|_| b'a' + (self.next().leading_zeros() as u8).min(25))),
                4 => bytes.extend((0..count).map(|_| self.below(20) as u8 * 12)),
                _ => {
                    let from = self.below(bytes.len() as u64 + 1) as usize;
                    let until = (from + count).min(bytes.len());
                    bytes.extend_from_within(from..until);
                }
            }
        }
        bytes.truncate(size);
        bytes
    }
}

fn gzip(data: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A member around a deflate stream that somebody else wrote.
fn member(deflate: &[u8], data: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(data);
    let header = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    [&header[..], deflate, &crc.sum().to_le_bytes(), &(data.len() as u32).to_le_bytes()].concat()
}

/// Gives a few bytes at a time, as a network does.
struct Drip<'a>(&'a [u8], Random);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = 1 << self.1.below(18);
        let count = (1 + self.1.below(most) as usize).min(buffer.len());
        self.0.read(&mut buffer[..count])
    }
}

fn unpack(stream: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    Reader::new(stream).read_to_end(&mut data).map(|_| data)
}

#[test]
fn what_others_pack_is_unpacked() {
    let seed = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    println!("seed: {seed}");
    let mut random = Random(seed);
    for round in 0..21 {
        let size = [0, 1, 2, 300, 40_000, 170_000, 900_000][round % 7] + random.below(100) as usize;
        let data = random.bytes(size);
        for level in 0..=9 {
            let stream = gzip(&data, level);
            let mut found = Vec::new();
            let drip = Drip(&stream, Random(random.next() | 1));
            Reader::new(drip)
                .read_to_end(&mut found)
                .unwrap_or_else(|error| panic!("{size} bytes at {level}: {error}"));
            assert!(found == data, "{size} bytes at {level}");
        }
    }
}

#[test]
fn members_follow_each_other_and_do_not_see_each_other() {
    let one = Random(7).bytes(100_000);
    let stream = [gzip(&one, 6), gzip(b"", 6), gzip(b"x", 0), gzip(&one, 1)].concat();
    assert!(unpack(&stream).unwrap() == [&one[..], b"x", &one].concat());
    assert!(unpack(b"").unwrap().is_empty());
    // A distance that would reach into the member before.
    let back = [0x4b, 0x04, 0xc2, 0x00];
    let error = unpack(&[gzip(&[b'a'; 100], 6), member(&back, b"aaaa")].concat()).unwrap_err();
    assert!(error.to_string().contains("reaches behind the beginning"), "{error}");
}

#[test]
fn ends_of_members_and_blocks_lie_anywhere_in_what_is_read() {
    let seed = 0x2545_f491_4f6c_dd1d_u64 ^ u64::from(std::process::id());
    println!("seed: {seed}");
    let mut random = Random(seed);
    for _ in 0..6 {
        let (mut stream, mut data) = (Vec::new(), Vec::new());
        for _ in 0..2000 {
            let size = random.below(60) as usize;
            let piece = random.bytes(size);
            stream.extend(gzip(&piece, random.below(10) as u32));
            data.extend(piece);
        }
        let mut found = Vec::new();
        let read = Reader::new(Drip(&stream, Random(random.next() | 1))).read_to_end(&mut found);
        assert!(read.is_ok() && found == data, "{read:?}");
    }
}

#[test]
fn headers_of_all_forms() {
    let check = |flags: u8, more: &[u8], hash: bool| {
        let mut stream = vec![0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3];
        stream.extend(more);
        if hash {
            let mut crc = Crc::new();
            crc.update(&stream);
            stream.extend(&(crc.sum() as u16).to_le_bytes());
        }
        stream.extend(&gzip(b"data", 6)[10..]);
        assert_eq!(unpack(&stream).unwrap(), b"data", "{flags}");
    };
    check(0, b"", false);
    check(1, b"", false);
    check(4, b"\x05\0extra", false);
    check(8, b"name\0", false);
    check(16, b"comment\0", false);
    check(4 | 8 | 16 | 2, b"\x02\0xxname\0comment\0", true);
    check(8, &[&vec![b'n'; 300_000][..], b"\0"].concat(), false);
}

#[test]
fn blocks_of_all_kinds() {
    // Written by hand: fixed codes with a match, a stored block, and a dynamic one with a single distance.
    let check = |deflate: &[u8], data: &[u8]| {
        assert_eq!(unpack(&member(deflate, data)).unwrap(), data, "{deflate:x?}");
    };
    check(&[0x4b, 0x04, 0x00], b"a");
    check(&[0x01, 0x02, 0x00, 0xfd, 0xff, b'h', b'i'], b"hi");
    check(&[0x00, 0x00, 0x00, 0xff, 0xff, 0x01, 0x01, 0x00, 0xfe, 0xff, b'x'], b"x");
    let run = vec![b'r'; 1_000_000];
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&run).unwrap();
    check(&encoder.finish().unwrap(), &run);
}

#[test]
fn damage_is_found() {
    let check = |stream: &[u8], expect: &str| {
        let error = unpack(stream).unwrap_err();
        assert!(error.to_string().contains(expect), "{stream:x?}: {error}, not {expect}");
    };
    let good = gzip(b"some data, some data", 6);
    check(&good[..good.len() - 1], "cut off");
    check(&good[..12], "cut off");
    check(&good[..5], "cut off");
    check(&[&good[..], b"x"].concat(), "cut off");
    check(&[&good[..], b"rest of something"].concat(), "does not begin with 1f 8b");
    check(b"\x1f\x8b\x07\0\0\0\0\0\0\0", "not deflate");
    check(b"\x1f\x8b\x08\xe0\0\0\0\0\0\0", "mean nothing");
    check(&[&b"\x1f\x8b\x08\x08\0\0\0\0\0\0"[..], &vec![b'n'; 2 << 20]].concat(), "has no end");
    check(&[&b"\x1f\x8b\x08\x02\0\0\0\0\0\0xx"[..], &good[10..]].concat(), "checksum of the header");
    check(&[&good[..good.len() - 8], &[0; 4], &good[good.len() - 4..]].concat(), "the checksum");
    check(&[&good[..good.len() - 4], &[9; 4]].concat(), "the size");
    check(&member(&[0x07], b""), "kind that there is not");
    check(&member(&[0x01, 2, 0, 2, 0], b""), "says twice");
    // All lengths of codes one: too many. A single one of length two: too few.
    check(&member(&[0x05, 0xe0, 0x49, 0x92, 0x24, 0x49, 0x92, 0x24, 0x49], b""), "more codes");
    check(&member(&[0x05, 0x00, 0x10, 0, 0, 0, 0, 0, 0, 0, 0], b""), "fewer codes");
}

#[test]
fn damaged_streams_never_give_more_than_an_error_or_the_data() {
    let seed = 0x5851_f42d_4c95_7f2d_u64 ^ u64::from(std::process::id());
    println!("seed: {seed}");
    let mut random = Random(seed);
    let data = random.bytes(50_000);
    for round in 0..400 {
        let mut stream = gzip(&data, 1 + round % 9);
        for _ in 0..=random.below(3) {
            let at = random.below(stream.len() as u64) as usize;
            stream[at] ^= 1 << random.below(8);
        }
        let mut theirs = Vec::new();
        let read = flate2::read::MultiGzDecoder::new(&stream[..]).read_to_end(&mut theirs);
        match (unpack(&stream), read) {
            (Ok(found), Ok(_)) => assert!(found == theirs, "round {round}"),
            (Ok(found), Err(error)) => panic!("round {round}: {} bytes, and others say {error}", found.len()),
            // What others do not look at, such as reserved flags and the checksum of a header.
            (Err(error), Ok(_)) => assert!(error.to_string().contains("header") || stream[3] != 0, "{round}: {error}"),
            (Err(_), Err(_)) => {}
        }
    }
}

#[test]
fn errors_of_the_source_are_told() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no network"))
        }
    }
    let good = gzip(&[b'x'; 1000], 6);
    let error = Reader::new(good[..10].chain(Broken)).read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "no network");
    assert!(matches!(Error::from(error), Error::Io(_)));
}
