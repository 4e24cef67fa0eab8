//! Which compression a stream has, told by its first bytes, and its removal.
//!
//! What media types say of compression is often wrong, so nobody asks them. Streams that carry an index of their own,
//! eStargz and chunked zstd, are made of several members or frames, and read as the plain archives that they are as well.

use std::io::{self, BufReader, Chain, Cursor, Read};

/// Bytes by which a compression is told.
const MAGIC: usize = 10;
/// Bytes of compressed data that are read at a time.
const PIECE: usize = 128 * 1024;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// With gzip (RFC 1952).
    Gzip,
    /// With Zstandard (RFC 8878).
    Zstd,
}

impl Compression {
    /// Tells by the first bytes of a stream. Kinds that are known and not supported are refused.
    pub fn detect(start: &[u8]) -> io::Result<Self> {
        let refuse = |name: &str| {
            let text = format!("{name} compression is not supported: use gzip, zstd or none");
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        };
        match start {
            [0x1f, 0x8b, 8, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => refuse("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', b'&', ..] => refuse("bzip2"),
            [0x04, 0x22, 0x4d, 0x18, ..] => refuse("lz4"),
            _ => Ok(Self::None),
        }
    }
}

/// A stream with the bytes that were looked at before it again.
type Whole<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

/// A stream without its compression.
pub struct Decompressed<R: Read>(Decoder<R>);

enum Decoder<R: Read> {
    None(Whole<R>),
    Gzip(Box<gantry_inflate::Reader<Chain<Cursor<Vec<u8>>, R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Whole<R>>>),
}

/// Removes the compression of a stream, whatever it is.
///
/// A window of up to 128 MiB is taken from a zstd stream, which is what `zstd -d` takes too.
pub fn decompress<R: Read>(mut reader: R) -> io::Result<Decompressed<R>> {
    let mut start = Vec::with_capacity(MAGIC);
    reader.by_ref().take(MAGIC as u64).read_to_end(&mut start)?;
    let compression = Compression::detect(&start)?;
    let whole = Cursor::new(start).chain(reader);
    let buffered = |whole| BufReader::with_capacity(PIECE, whole);
    Ok(Decompressed(match compression {
        Compression::None => Decoder::None(buffered(whole)),
        Compression::Gzip => Decoder::Gzip(Box::new(gantry_inflate::Reader::new(whole))),
        Compression::Zstd => Decoder::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(buffered(whole))?)),
    }))
}

impl<R: Read> Decompressed<R> {
    /// Which compression it was.
    pub fn compression(&self) -> Compression {
        match self.0 {
            Decoder::None(_) => Compression::None,
            Decoder::Gzip(_) => Compression::Gzip,
            Decoder::Zstd(_) => Compression::Zstd,
        }
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Decoder::None(reader) => reader.read(buffer),
            Decoder::Gzip(reader) => reader.read(buffer),
            Decoder::Zstd(reader) => reader.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn streams() {
        let check = |stream: &[u8], kind: Compression, expect: &[u8]| {
            let mut decompressed = decompress(stream).unwrap();
            assert_eq!(decompressed.compression(), kind);
            let mut data = Vec::new();
            decompressed.read_to_end(&mut data).unwrap();
            assert_eq!(data, expect);
        };
        let zstd = |data: &[u8]| zstd::encode_all(data, 3).unwrap();
        check(b"", Compression::None, b"");
        check(b"plain", Compression::None, b"plain");
        check(&gzip(b"one"), Compression::Gzip, b"one");
        check(&[gzip(b"one"), gzip(b""), gzip(b"two")].concat(), Compression::Gzip, b"onetwo");
        check(&zstd(b"one"), Compression::Zstd, b"one");
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
        check(&[&skippable[..], &zstd(b"one"), &skippable, &zstd(b"two")].concat(), Compression::Zstd, b"onetwo");
    }

    #[test]
    fn refused() {
        let check = |stream: &[u8]| {
            let read = decompress(stream).and_then(|mut stream| stream.read_to_end(&mut Vec::new()));
            assert!(read.is_err(), "{stream:?}");
        };
        let gzip = gzip(&[7; 1000]);
        check(&gzip[..gzip.len() - 1]);
        check(&[&gzip[..gzip.len() - 8], &[0; 8]].concat());
        let zstd = zstd::encode_all(&[7; 1000][..], 3).unwrap();
        check(&zstd[..zstd.len() - 1]);
        check(b"\xfd7zXZ\0rest");
        check(b"BZh91AY&SYrest");
    }
}
