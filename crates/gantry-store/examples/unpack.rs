//! Unpacks an archive into an empty directory as a layer, and prints its digest: what `cargo xtask bench images` measures
//! beside tar.

use std::fs::File;
use std::os::fd::AsFd as _;

use gantry_store::layer::{self, LayerError, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [archive, directory] = &arguments[..] else { return Err("usage: unpack ARCHIVE DIRECTORY".into()) };
    let (mut archive, root) = (File::open(archive)?, File::open(directory)?);
    let unpacked = layer::unpack(&mut archive, root.as_fd(), &Options::default(), &|_| ());
    println!("{}", unpacked.map_err(|error: LayerError| error.to_string())?.diff_id);
    Ok(())
}
