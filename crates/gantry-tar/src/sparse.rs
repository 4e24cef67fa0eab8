//! Sparse files: where their data belongs (GNU tar manual, Storing Sparse Files).
//!
//! A map is checked once, so that whoever writes the file need not: in order, no overlaps, within the file.

use crate::entry::Extent;
use crate::header::{Block, GNU_EXTENDED, GNU_SPARSE, number};

/// Bytes of an extent in GNU's old format.
const OLD_EXTENT: usize = 24;
/// Extents in a block that continues a map of the old format; after them one byte says whether another block follows.
const OLD_IN_BLOCK: usize = 21;

/// Extents of the old format's header. The second value says whether more blocks follow.
pub fn old_header(block: &Block) -> Option<(Vec<Extent>, bool)> {
    Some((old_extents(&block[GNU_SPARSE])?, block[GNU_EXTENDED] != 0))
}

/// Extents of a block that continues a map.
pub fn old_block(block: &Block) -> Option<(Vec<Extent>, bool)> {
    let end = OLD_IN_BLOCK * OLD_EXTENT;
    Some((old_extents(&block[..end])?, block[end] != 0))
}

fn old_extents(bytes: &[u8]) -> Option<Vec<Extent>> {
    let used = bytes.chunks_exact(OLD_EXTENT).take_while(|extent| extent[0] != 0);
    let field = |bytes: &[u8]| u64::try_from(number(bytes)?).ok();
    used.map(|extent| Some(Extent { offset: field(&extent[..12])?, length: field(&extent[12..])? })).collect()
}

/// Checks a map against the size of the file and the data that the archive holds for it.
pub fn check(map: &[Extent], size: u64, stored: u64) -> Result<(), &'static str> {
    let mut end = 0_u64;
    let mut data = 0_u64;
    for extent in map {
        if extent.offset < end {
            return Err("has extents that overlap or are out of order");
        }
        end = extent.offset.checked_add(extent.length).ok_or("has an extent that ends nowhere")?;
        data += extent.length;
    }
    if end > size {
        return Err("has an extent beyond the end of the file");
    }
    if data != stored {
        return Err("does not fit the data that is there");
    }
    Ok(())
}
