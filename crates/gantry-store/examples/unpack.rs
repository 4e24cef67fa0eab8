//! Unpacks a layer into an empty directory, or packs a directory: to measure, beside `tar x` and `tar c`.

use std::fs::File;
use std::os::fd::AsFd as _;

use gantry_store::layer::{self, DiffOptions, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["unpack", layer, directory] => {
            let root = File::open(directory)?;
            let unpacked = layer::unpack(&mut File::open(layer)?, root.as_fd(), &Options::default(), &|_| ())?;
            layer::settle(root.as_fd(), &unpacked.pending, &[])?;
            println!("{} {} bytes, {} entries", unpacked.diff_id, unpacked.size, unpacked.entries);
        }
        ["diff", directory, layer] => {
            let root = File::open(directory)?;
            let (digest, size) = layer::diff(root.as_fd(), &mut File::create(layer)?, DiffOptions::default())?;
            println!("{digest} {size} bytes");
        }
        _ => return Err("usage: unpack unpack LAYER DIRECTORY | diff DIRECTORY LAYER".into()),
    }
    Ok(())
}
