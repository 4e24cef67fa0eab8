//! Tar archives. Their headers carry a checksum, which is made right again after the damage: it keeps nobody out.

use gantry_tar::{Entry, Extent, Kind, Limits, Reader, Time, Writer};
use std::io::Read as _;

const BLOCK: usize = 512;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// An archive of everything that our writer knows, and one in GNU's own dialect.
pub fn archives() -> Vec<Vec<u8>> {
    let mut writer = Writer::new(Vec::new());
    let mut append = |entry: Entry, data: &[u8]| writer.append(&entry, data).is_ok();
    let base = Entry { mode: 0o4755, path: b"file".to_vec(), ..Entry::default() };
    let time = Time { seconds: -2, nanos: 5 };
    let xattrs = vec![(b"user.a".to_vec(), b"\0\n=".to_vec()), (b"security.capability".to_vec(), vec![1; 20])];
    let map = vec![Extent { offset: 3, length: 4 }, Extent { offset: 1 << 40, length: 0 }];
    let written = append(Entry { size: 4, ..base.clone() }, b"data")
        && append(Entry { path: vec![b'n'; 300], uid: 3_000_000, mtime: time, xattrs, ..base.clone() }, b"")
        && append(Entry { kind: Kind::Symlink, link: vec![b't'; 200], ..base.clone() }, b"")
        && append(Entry { kind: Kind::Link, link: b"../file".to_vec(), ..base.clone() }, b"")
        && append(Entry { kind: Kind::Char, major: 1, minor: 3, ..base.clone() }, b"")
        && append(Entry { size: 1 << 40, sparse: Some(map), ..base }, b"data");
    assert!(written, "the writer refuses a good entry");
    let ours = writer.finish().unwrap_or_default();
    let mut gnu = Vec::new();
    block(&mut gnu, b'L', b"././@LongLink", 5);
    data(&mut gnu, b"long\0");
    block(&mut gnu, b'S', b"cut", 4);
    // One extent in the header, and another in a block after it.
    let header = gnu.len() - BLOCK;
    gnu[header + 386..header + 410].copy_from_slice(b"00000000001\x0000000000002\0");
    gnu[header + 482] = 1;
    gnu[header + 483..header + 495].copy_from_slice(b"\x80\0\0\0\0\0\0\x10\0\0\0\0");
    data(&mut gnu, b"00000000100\x0000000000002\0");
    data(&mut gnu, b"data");
    block(&mut gnu, b'g', b"global", 11);
    data(&mut gnu, b"11 uid=100\n");
    block(&mut gnu, b'D', b"dump/", 3);
    data(&mut gnu, b"Yf\0");
    repair(&mut gnu);
    vec![ours, gnu]
}

fn block(archive: &mut Vec<u8>, flag: u8, name: &[u8], size: usize) {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[156] = flag;
    let magic: &[u8] = if flag == b'g' { b"ustar\x0000" } else { b"ustar  \0" };
    block[257..265].copy_from_slice(magic);
    archive.extend_from_slice(&block);
}

fn data(archive: &mut Vec<u8>, data: &[u8]) {
    archive.extend_from_slice(data);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}

/// Makes the checksum of everything right that could be a header.
fn repair(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(BLOCK).filter(|block| block[257..262] == *b"ustar") {
        block[CHECKSUM].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    }
}

/// Reading an archive. What is accepted can be written, and is the same when it is read again.
pub fn archive(input: &[u8]) {
    let mut repaired = input.to_vec();
    repair(&mut repaired);
    let Some(entries) = read(&repaired) else { return };
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in &entries {
        assert!(!entry.path.is_empty() && !entry.path.contains(&0), "{entry:?}");
        // A name of an attribute, or a number of a device, may be more than a header of ours can hold.
        if writer.append(entry, data).is_err() {
            return;
        }
    }
    let written = writer.finish().unwrap_or_default();
    let mut expect = entries;
    for (entry, _) in &mut expect {
        entry.xattrs.sort();
    }
    assert!(read(&written).as_ref() == Some(&expect), "{expect:?} became {:?}", read(&written));
}

/// All entries, up to some, or none if the archive is refused.
fn read(archive: &[u8]) -> Option<Vec<(Entry, Vec<u8>)>> {
    let mut reader = Reader::with_limits(archive, Limits { extended: 1 << 16, name: 1 << 12, extents: 1 << 8 });
    let mut entry = Entry::default();
    let mut entries = Vec::new();
    while entries.len() < 1000 && reader.read_entry(&mut entry).ok()? {
        let mut data = Vec::new();
        reader.data().read_to_end(&mut data).ok()?;
        assert_eq!(data.len() as u64, if entry.kind == Kind::Directory { data.len() as u64 } else { entry.stored() });
        if entry.kind == Kind::Directory {
            data.clear();
        }
        entries.push((entry.clone(), data));
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    /// Damage to an archive that was refused as it is would reach nothing.
    #[test]
    fn the_seeds_are_good_archives() {
        let counts: Vec<_> =
            super::archives().iter().map(|archive| super::read(archive).map(|all| all.len())).collect();
        assert_eq!(counts, [Some(6), Some(2)]);
    }
}
