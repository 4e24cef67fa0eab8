//! The end of an image: directories, when it is known where everything that they name is.
//!
//! First it is decided how large each is and where it will be, which needs no numbers of inodes. Then everything is written
//! in order: the whole blocks of all directories, and their inodes with the rests. The root's goes into the first block.

use crate::builder::{Builder, ROOT_ATTRIBUTES, Summary, inode};
use crate::directory::{self, Extent};
use crate::error::{Error, Result};
use crate::format::{self, BLOCK, INODE, LINKS_AT, Layout, SLOT, Superblock, Type};
use crate::inodes::{Inodes, Packer};
use crate::tree::{self, Directory, Node, Tree};
use crate::xattr;
use std::io::{Seek, Write};

/// Where the directories will be.
#[derive(Debug, Default)]
struct Plan {
    /// One for each directory, in the order of the tree.
    places: Vec<Place>,
    /// Bytes of the pieces that their inodes are in.
    pieces: Vec<usize>,
    /// First of their blocks.
    first: u32,
    /// Where their inodes begin, in bytes.
    inodes_at: u64,
    inodes: u64,
}

/// Where one directory will be.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    extent: Extent,
    /// Whether the last block lies beside the inode.
    inline: bool,
    /// First block, from that of the first directory.
    block: u64,
    piece: usize,
    /// Place of the inode, from that of the first directory but the root.
    at: u64,
}

impl Place {
    fn size(&self) -> u64 {
        let full = if self.inline { self.extent.full } else { self.extent.full - 1 };
        Extent { full, ..self.extent }.size()
    }
}

impl Plan {
    fn nid(&self, tree: &Tree, inodes: &Inodes, node: Node) -> u64 {
        match node {
            Node::Directory(tree::ROOT) => (format::ROOT / SLOT) as u64,
            Node::Directory(directory) => (self.inodes_at + self.places[directory as usize].at) / SLOT as u64,
            Node::Leaf(leaf) => inodes.nid(tree.leaves[leaf as usize].place),
        }
    }
}

impl<W: Write + Seek> Builder<W> {
    /// Writes the directories and whatever else is left, and at last what makes an image of it. It is not synced.
    pub fn finish(mut self) -> Result<(W, Summary)> {
        self.settled()?;
        self.inodes.write(&mut self.out)?;
        self.out.align()?;
        let links: Vec<(u64, u32)> = self.links();
        let plan = self.plan()?;
        let mut first = [0; BLOCK];
        self.write_blocks(&plan)?;
        self.write_inodes(&plan, &mut first)?;
        for (_, count) in &links {
            self.out.note(&count.to_le_bytes());
        }
        let blocks = self.out.block(0, "the size of the image")?;
        let (uuid, inodes) = (self.options.uuid.unwrap_or_else(|| self.out.uuid()), plan.inodes + self.alive());
        Superblock { inodes, blocks, uuid }.seal(&mut first);
        for (at, count) in links {
            self.out.patch(at, &count.to_le_bytes())?;
        }
        let out = self.out.finish(&first)?;
        Ok((out, Summary { size: u64::from(blocks) * BLOCK as u64, inodes, uuid }))
    }

    fn alive(&self) -> u64 {
        self.tree.leaves.iter().filter(|leaf| leaf.links > 0).count() as u64
    }

    /// Where the numbers of links are that are not the usual one.
    fn links(&self) -> Vec<(u64, u32)> {
        let many = self.tree.leaves.iter().filter(|leaf| leaf.links > 1);
        many.map(|leaf| (self.inodes.nid(leaf.place) * SLOT as u64 + LINKS_AT, leaf.links)).collect()
    }

    /// Decides where directories will be.
    fn plan(&mut self) -> Result<Plan> {
        let mut plan = Plan { places: vec![Place::default(); self.tree.directories.len()], ..Plan::default() };
        let (mut packer, mut piece, mut blocks) = (Packer::default(), 0, 0_u64);
        let directories = self.tree.directories.iter().enumerate().filter(|(_, directory)| !directory.gone);
        for (own, directory) in directories {
            let xattrs = xattr::of_directory(directory)?.len();
            let mut extent = directory::measure(own as u32, directory);
            let room = if own == 0 { BLOCK - format::ROOT } else { BLOCK };
            if own == 0 && INODE + xattrs > room {
                return Err(Error::entry(b"/", ROOT_ATTRIBUTES));
            }
            let fits = INODE + xattrs + extent.rest <= room;
            if !fits {
                extent.full += 1;
            }
            let place = &mut plan.places[own];
            (place.extent, place.inline, place.block) = (extent, fits, blocks);
            blocks += u64::from(extent.full);
            plan.inodes += 1;
            if own == 0 {
                continue;
            }
            let length = INODE + xattrs + if fits { extent.rest } else { 0 };
            let at = packer.place(length).unwrap_or_else(|| {
                plan.pieces.push(packer.length());
                piece += packer.length() as u64;
                packer = Packer::default();
                packer.place(length).unwrap_or(0)
            });
            place.piece = plan.pieces.len();
            place.at = piece + at as u64;
        }
        plan.pieces.push(packer.length());
        piece += packer.length() as u64;
        plan.first = self.out.block(blocks * BLOCK as u64 + piece, "the size of the directories")?;
        plan.inodes_at = u64::from(plan.first) * BLOCK as u64 + blocks * BLOCK as u64;
        Ok(plan)
    }

    /// Writes the whole blocks of all directories.
    fn write_blocks(&mut self, plan: &Plan) -> Result<()> {
        let Self { out, tree, inodes, .. } = self;
        for (own, place) in plan.places.iter().enumerate().filter(|(_, place)| place.extent.full > 0) {
            let mut left = place.extent.full;
            directory::blocks(tree, own as u32, 0, &|node| plan.nid(tree, inodes, node), &mut |block| {
                if left > 0 {
                    left -= 1;
                    out.write(block)?;
                    out.align()?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Writes the inodes of all directories; that of the root into the first block.
    fn write_inodes(&mut self, plan: &Plan, first: &mut [u8; BLOCK]) -> Result<()> {
        let (mut piece, mut start) = (0, plan.inodes_at);
        let mut bytes = vec![0; plan.pieces[0]];
        for (own, place) in plan.places.iter().enumerate() {
            let directory = &self.tree.directories[own];
            if directory.gone {
                continue;
            }
            while own > 0 && place.piece > piece {
                self.out.write(&bytes)?;
                start += plan.pieces[piece] as u64;
                piece += 1;
                bytes.clear();
                bytes.resize(plan.pieces[piece], 0);
            }
            let (number, directory) = (self.next_number()?, &self.tree.directories[own]);
            let all = self.directory(own as u32, directory, plan, number)?;
            let target = if own == 0 {
                &mut first[format::ROOT..]
            } else {
                &mut bytes[(plan.inodes_at + place.at - start) as usize..]
            };
            target[..all.len()].copy_from_slice(&all);
        }
        self.out.note(&first[format::ROOT..]);
        self.out.write(&bytes)
    }

    /// An inode of a directory with what lies behind it.
    fn directory(&self, own: u32, directory: &Directory, plan: &Plan, number: u32) -> Result<Vec<u8>> {
        let place = &plan.places[own as usize];
        let xattrs = xattr::of_directory(directory)?;
        let mut inode = inode(Type::Directory, &directory.attributes, xattrs.len(), number);
        let below = directory.children.values().filter(|node| matches!(node, Node::Directory(_))).count();
        inode.links = 2 + below as u32;
        inode.size = place.size();
        inode.place = if place.extent.full > 0 { plan.first + place.block as u32 } else { 0 };
        inode.layout = if place.inline { Layout::Inline } else { Layout::Plain };
        let mut all = [&inode.encode()[..], &xattrs].concat();
        if place.inline {
            let nid = |node| plan.nid(&self.tree, &self.inodes, node);
            directory::blocks(&self.tree, own, place.extent.first, &nid, &mut |block| {
                all.extend(block);
                Ok(())
            })?;
        }
        Ok(all)
    }
}
