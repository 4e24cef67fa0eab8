//! The crash test: an engine with 50 containers that start, log, exit and restart is killed again and again, and each time
//! it is looked at what is there.
//!
//! The process that is killed writes down what it is about to do and what it has done. So it is known which containers
//! there must be, under which names, and which of them must still run with the process that they had. At the end all is
//! removed, and nothing may be left. `GANTRY_SEED` repeats a run as far as chance is the test's own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]
#![allow(clippy::large_futures, reason = "there are few of them")]

mod expect;
#[path = "../engine/kit.rs"]
#[allow(dead_code, reason = "another test uses the rest")]
mod kit;
#[path = "../engine/leaks.rs"]
mod leaks;
mod load;

use std::hash::{BuildHasher as _, RandomState};
use std::io::{BufRead, BufReader};
use std::mem::ManuallyDrop;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gantry_engine::request::{CreateNetwork, RemoveOptions};

use crate::expect::Expected;
use crate::kit::{Place, in_own_network};
use crate::load::{NETWORK, Random};

/// How often the process is killed.
const KILLS: u64 = 100;
const PLACE: &str = "GANTRY_CRASH_PLACE";
const SEED: &str = "GANTRY_CRASH_SEED";
/// Milliseconds that the process may have after it has opened the engine.
const LONGEST: u64 = 300;

/// What the killed process does; run by the test below.
#[test]
#[ignore = "is run by the crash test, which kills it"]
fn the_process_that_is_killed() {
    let path = std::path::PathBuf::from(std::env::var_os(PLACE).expect("the crash test says where"));
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    // It is the other process's to clear up.
    let place = ManuallyDrop::new(Place { path, name });
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = place.open().await;
        load::say("opened");
        load::all(&engine, seed).await;
    });
}

fn seed() -> u64 {
    let given = std::env::var("GANTRY_SEED").ok().and_then(|text| text.parse().ok());
    // Another one each time.
    let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0) >> 16);
    println!("GANTRY_SEED={seed}");
    seed
}

/// Lets the process run for a while and kills it.
fn run_and_kill(place: &Place, seed: u64, expected: &mut Expected) {
    let errors = place.path.join("errors");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["the_process_that_is_killed", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    // Not a pipe: monitors have it too, and outlive the process.
    command.env(PLACE, &place.path).env(SEED, seed.to_string()).stdout(Stdio::piped());
    let mut child = command.stderr(std::fs::File::create(&errors).unwrap()).spawn().unwrap();
    let out = child.stdout.take().unwrap();
    let (opened, is_open) = std::sync::mpsc::channel();
    let lines = std::thread::spawn(move || {
        let lines = BufReader::new(out).lines().map_while(std::io::Result::ok);
        let tell = |line: &String| {
            if line == "@ opened" {
                opened.send(()).unwrap_or_default();
            }
        };
        lines.inspect(tell).collect::<Vec<_>>()
    });
    // One time in four it may be killed while it opens the engine.
    if !seed.is_multiple_of(4) {
        let opened = is_open.recv_timeout(Duration::from_secs(60));
        if opened.is_err() {
            child.kill().unwrap();
        }
        assert!(opened.is_ok(), "it does not open: {}", std::fs::read_to_string(&errors).unwrap());
    }
    std::thread::sleep(Duration::from_millis(Random(seed).next() % LONGEST));
    child.kill().unwrap();
    let ended = child.wait().unwrap();
    assert!(ended.code().is_none(), "it ended by itself: {}", std::fs::read_to_string(&errors).unwrap());
    for line in lines.join().unwrap().iter().filter_map(|line| line.strip_prefix("@ ")) {
        if line != "opened" {
            expected.note(line);
        }
    }
}

#[test]
fn killed_at_any_moment_it_loses_and_leaks_nothing() {
    // Made here, it is cleared when all tasks of the engine have ended, however the test does.
    let place = Place::new();
    let place = &place;
    in_own_network(|| async move {
        let (seed, begun) = (seed(), Instant::now());
        let engine = place.open().await;
        let network = CreateNetwork { name: NETWORK.to_owned(), ..CreateNetwork::default() };
        engine.create_network(network).await.unwrap();
        engine.close().await;
        let (before, namespaces) = (leaks::count(place), leaks::namespaces());
        let mut expected = Expected::default();
        for kill in 0..KILLS {
            run_and_kill(place, seed.wrapping_add(kill), &mut expected);
            let engine = place.open().await;
            expected.verify(&engine, kill).await;
            engine.close().await;
        }
        expected.report();
        let engine = place.open().await;
        let force = RemoveOptions { force: true, volumes: true };
        for container in engine.containers() {
            match engine.remove(&container.record.id, force).await {
                Err(error) if !error.is_missing() => panic!("remove {}: {error}", container.record.name),
                _ => {}
            }
        }
        for volume in engine.volumes() {
            assert!(volume.name.starts_with("vol"), "an anonymous volume is left: {}", volume.name);
            engine.remove_volume(&volume.name, false).await.unwrap();
        }
        engine.close().await;
        leaks::settled(place, &before).await;
        assert_eq!(leaks::namespaces(), namespaces);
        let engine = place.open().await;
        engine.remove_network(NETWORK).await.unwrap();
        engine.close().await;
        println!("{KILLS} kills in {:.1} s", begun.elapsed().as_secs_f64());
    });
}
