//! The blocks of directories: entries in the order of the bytes of their names, `.` and `..` among them.
//!
//! Each block stands for itself: entries of a fixed size, then the names that they point to. The kernel finds a name by
//! bisecting over the blocks, and then within one.

use crate::error::Result;
use crate::format::{BLOCK, DIRENT, Type, dirent};
use crate::tree::{Directory, Node, Tree};

/// Something that has a name in a directory.
type Named<'a> = (&'a [u8], Node);

/// How large a directory is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extent {
    /// Blocks that are full, but for what no entry fitted into.
    pub full: u32,
    /// Bytes of the last block.
    pub rest: usize,
    /// The first entry of the last block.
    pub first: usize,
}

impl Extent {
    /// Bytes of the directory.
    pub fn size(&self) -> u64 {
        u64::from(self.full) * BLOCK as u64 + self.rest as u64
    }
}

/// All entries of a directory in their order.
fn entries<'a>(own: u32, directory: &'a Directory) -> impl Iterator<Item = Named<'a>> {
    let dots: [Named<'a>; 2] = [(b".", Node::Directory(own)), (b"..", Node::Directory(directory.parent))];
    let (mut dots, mut rest) = (dots.into_iter().peekable(), directory.children.iter().peekable());
    std::iter::from_fn(move || match (dots.peek(), rest.peek()) {
        (Some(dot), Some((name, _))) if dot.0 > &***name => rest.next().map(|(name, node)| (&**name, *node)),
        (Some(_), _) => dots.next(),
        _ => rest.next().map(|(name, node)| (&**name, *node)),
    })
}

/// How large a directory will be.
pub fn measure(own: u32, directory: &Directory) -> Extent {
    let mut extent = Extent::default();
    for (index, (name, _)) in entries(own, directory).enumerate() {
        let length = DIRENT + name.len();
        if extent.rest + length > BLOCK {
            extent = Extent { full: extent.full + 1, rest: 0, first: index };
        }
        extent.rest += length;
    }
    extent
}

/// The blocks of a directory from the entry `first` on, the last one as long as it is. `nid` gives the numbers of inodes.
pub fn blocks(
    tree: &Tree,
    own: u32,
    first: usize,
    nid: &dyn Fn(Node) -> u64,
    give: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let (mut batch, mut length) = (Vec::new(), 0);
    let mut block = Vec::with_capacity(BLOCK);
    for named in entries(own, &tree.directories[own as usize]).skip(first) {
        let more = DIRENT + named.0.len();
        if length + more > BLOCK {
            encode(tree, &batch, nid, &mut block);
            block.resize(BLOCK, 0);
            give(&block)?;
            batch.clear();
            length = 0;
        }
        batch.push(named);
        length += more;
    }
    encode(tree, &batch, nid, &mut block);
    give(&block)
}

/// One block.
fn encode(tree: &Tree, batch: &[Named<'_>], nid: &dyn Fn(Node) -> u64, block: &mut Vec<u8>) {
    block.clear();
    let mut name_at = batch.len() * DIRENT;
    for (name, node) in batch {
        let kind = match node {
            Node::Directory(_) => Type::Directory,
            Node::Leaf(leaf) => tree.leaves[*leaf as usize].kind,
        };
        block.extend(dirent(nid(*node), name_at as u16, kind));
        name_at += name.len();
    }
    for (name, _) in batch {
        block.extend(*name);
    }
}
