//! What unpacking costs beside GNU tar, in time and in time of processors.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Instant;

use gantry_store::layer::{self, Options};
use gantry_tar::{Entry, Kind, Writer};

use crate::kit::{Place, run};

/// A layer like those of distributions: 14,000 files, most of them small, 230 MB.
fn archive(path: &Path) {
    let mut writer = Writer::new(std::io::BufWriter::new(File::create(path).unwrap()));
    let data: Vec<u8> = (0..4 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for directory in 0..700_usize {
        let path = format!("d{}/d{directory}/", directory % 30).into_bytes();
        writer.append(&Entry { path, kind: Kind::Directory, mode: 0o755, ..Entry::default() }, b"").unwrap();
        for file in 0..20 {
            let size = if file == 0 && directory % 20 == 0 { 2 << 20 } else { 700 * (file + directory % 20) };
            let path = format!("d{}/d{directory}/f{file}", directory % 30).into_bytes();
            let entry = Entry { path, mode: 0o644, size: size as u64, ..Entry::default() };
            writer.append(&entry, &data[..size]).unwrap();
        }
    }
    writer.finish().unwrap();
}

/// Seconds of processors that this process and what it waited for have used.
fn used() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    // Fields 14 to 17 of proc(5), in hundredths of seconds.
    fields[11..15].iter().map(|field| field.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

#[test]
#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
#[ignore = "a measurement: run it alone, with --nocapture"]
fn what_unpacking_costs() {
    let Some(place) = Place::new() else { return };
    let file = place.path().join("archive");
    archive(&file);
    let megabytes = fs::metadata(&file).unwrap().len() as f64 / 1e6;
    for round in 0..4 {
        for what in ["tar", "unverified", "verified", "image"] {
            let into = place.dir(&format!("{what}-{round}"));
            run("sync", &["-f".as_ref(), into.as_os_str()], &into);
            let (before, begun) = (used(), Instant::now());
            let mut source = File::open(&file).unwrap();
            let root = File::open(&into).unwrap();
            let options = Options::default();
            match what {
                "tar" => drop(run("tar", &["-xpf".as_ref(), file.as_os_str()], &into)),
                "unverified" => drop(layer::unpack_unverified(&mut source, root.as_fd(), &options).unwrap()),
                "verified" => drop(layer::unpack(&mut source, root.as_fd(), &options, &|_| ()).unwrap()),
                _ => {
                    let to = File::create_new(into.join("image")).unwrap();
                    layer::image(&mut source, to, &options, &|_| ()).unwrap().finish(&[]).unwrap();
                }
            }
            let (time, processor) = (begun.elapsed().as_secs_f64(), used() - before);
            println!("{what}: {:.0} MB/s, {:.0} MB/s per core", megabytes / time, megabytes / processor);
            assert!(processor < 60.0);
        }
    }
}
