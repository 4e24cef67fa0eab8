//! Unpacks an archive into an empty directory as a layer, with or without its digest: what `cargo xtask bench images`
//! measures beside tar.

use std::fs::File;
use std::os::fd::AsFd as _;

use gantry_store::layer::{self, Options};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let (archive, directory, verified) = match &arguments[..] {
        [archive, directory] => (archive, directory, true),
        [archive, directory, word] if word == "unverified" => (archive, directory, false),
        _ => return Err("usage: unpack ARCHIVE DIRECTORY [unverified]".into()),
    };
    let (mut archive, root, options) = (File::open(archive)?, File::open(directory)?, Options::default());
    if verified {
        println!("{}", layer::unpack(&mut archive, root.as_fd(), &options, &|_| ())?.diff_id);
    } else {
        println!("{} bytes", layer::unpack_unverified(&mut archive, root.as_fd(), &options)?.0);
    }
    Ok(())
}
