//! The crash test: a process that does everything at once is killed again and again, and each time the store is looked at.
//!
//! The process writes down what it is about to do and what it has done. So it is known which names there must be, what
//! they must point to, and which snapshots there must be with what in them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use gantry_store::{Claim, LayerForm, Options, Policy, Result, Store};

use crate::kit::{Made, Place, Random, fetch, image, known, layer_files, options, sha256, unpack};

/// How often the process is killed.
const KILLS: u64 = 200;
/// How often it is killed while it makes a new store.
const BIRTHS: u64 = 100;
/// Names and images of each of the two threads.
const NAMES: u64 = 3;
const IMAGES: u64 = 6;
const THREADS: u64 = 2;

const ROOT: &str = "GANTRY_STORE_CRASH_ROOT";
const SEED: &str = "GANTRY_STORE_CRASH_SEED";
const FORM: &str = "GANTRY_STORE_CRASH_FORM";
/// How often it is killed when layers are images: what differs is little.
const IMAGE_KILLS: u64 = 40;

/// Half of the time the store's own thread has something to do all the time, so that it is killed in the middle too.
fn busy(seed: u64, layers: LayerForm) -> Options {
    let auto_collect = seed.is_multiple_of(2).then(|| Policy { min_age: None, ..Policy::default() });
    Options { auto_collect, layers, pause: Duration::from_millis(seed % 20), ..options() }
}

/// What the killed process does; run by the test below.
#[test]
#[ignore = "is run by the crash test, which kills it"]
fn the_process_that_is_killed() {
    let root = PathBuf::from(std::env::var_os(ROOT).expect("the crash test says where"));
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let images = std::env::var_os(FORM).is_some_and(|form| form == "erofs");
    let layers = if images { LayerForm::Erofs } else { LayerForm::Directories };
    let store = Store::open(&root, busy(seed, layers)).unwrap();
    say("opened");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || {
                let mut random = Random(seed.wrapping_mul(7).wrapping_add(thread));
                loop {
                    step(store, thread, &mut random).unwrap();
                }
            });
        }
    });
}

/// Writes down what is or was done, in one write.
fn say(line: &str) {
    // Not through the harness, which would keep it.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n@ {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn step(store: &Store, thread: u64, random: &mut Random) -> Result<()> {
    let number = thread * 100 + random.next() % IMAGES;
    let name = format!("t{thread}n{}", random.next() % NAMES);
    match random.below(12) {
        0..=4 => {
            let made = image(number);
            let lease = store.lease("crash", Duration::from_nanos(1))?;
            cut_off(store, &lease, &made, random)?;
            fetch(store, &lease, &made)?;
            say(&format!("tag? {name} {number}"));
            store.tag(&lease, &name.parse().unwrap(), &made.target)?;
            say(&format!("tag! {name} {number}"));
        }
        5 => {
            say(&format!("untag? {name}"));
            store.untag(&name.parse().unwrap())?;
            say(&format!("untag! {name}"));
        }
        6 | 7 => snapshot(store, thread, random, &name)?,
        8 => {
            let key = format!("t{thread}s{}", random.next() % NAMES);
            say(&format!("remove? {key}"));
            match store.remove_snapshot(&key) {
                Err(error) if !error.is_missing() => return Err(error),
                _ => say(&format!("remove! {key}")),
            }
        }
        9 | 10 => drop(store.collect(&Policy::dangling(), store.now(), false)?),
        _ => drop(store.collect(&Policy::unreferenced(), store.now(), false)?),
    }
    Ok(())
}

/// Begins a blob and gives up.
fn cut_off(store: &Store, lease: &gantry_store::Lease, made: &Made, random: &mut Random) -> Result<()> {
    let bytes = &made.tars[random.below(made.tars.len())];
    if let Claim::Mine(mut ingest) = store.ingest(lease, known(bytes))? {
        let from = usize::try_from(ingest.offset()).unwrap();
        let to = from + random.below(bytes.len() - from + 1);
        ingest.append(&bytes[from..to])?;
    }
    Ok(())
}

/// Makes a snapshot, writes to it, packs it and unpacks that again.
fn snapshot(store: &Store, thread: u64, random: &mut Random, name: &str) -> Result<()> {
    let Some(target) = store.image(&name.parse().unwrap())? else { return Ok(()) };
    let all = (0..IMAGES).map(|number| image(thread * 100 + number));
    let Some(made) = all.into_iter().find(|made| made.target == target) else { return Ok(()) };
    let key = format!("t{thread}s{}", random.next() % NAMES);
    if store.snapshot(&key)?.is_some() {
        return Ok(());
    }
    say(&format!("make? {key}"));
    let snapshot = store.prepare(&key, Some(&made.top))?;
    std::fs::write(snapshot.upper().join("written"), &key).unwrap();
    say(&format!("make! {key}"));
    let mut packed = Vec::new();
    store.diff_snapshot(&key, &mut packed)?;
    let lease = store.lease("crash", Duration::from_nanos(1))?;
    unpack(store, &lease, Some(&made.top), &packed)?;
    Ok(())
}

/// What may be: for each name the images, 0 for none; for each snapshot whether it is there.
#[derive(Default)]
struct Expected {
    names: BTreeMap<String, BTreeSet<Option<u64>>>,
    snapshots: BTreeMap<String, BTreeSet<bool>>,
    /// How often each thing was done.
    done: BTreeMap<String, u64>,
}

impl Expected {
    fn note(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = words.get(2).map(|number| number.parse().unwrap());
        let name = words[1].to_owned();
        *self.done.entry(words[0].to_owned()).or_insert(0) += 1;
        match words[0] {
            // Before it is done both may be, after it only the new.
            "tag?" | "untag?" => drop(self.names.entry(name).or_insert_with(|| [None].into()).insert(number)),
            "tag!" | "untag!" => drop(self.names.insert(name, [number].into())),
            "make?" => drop(self.snapshots.entry(name).or_insert_with(|| [false].into()).insert(true)),
            "make!" => drop(self.snapshots.insert(name, [true].into())),
            "remove?" => drop(self.snapshots.entry(name).or_insert_with(|| [false].into()).insert(false)),
            "remove!" => drop(self.snapshots.insert(name, [false].into())),
            other => panic!("{other}"),
        }
    }
}

/// Lets the process run for a while and kills it.
fn run_and_kill(place: &Place, seed: u64, after: Duration, expected: &mut Expected) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["crash::the_process_that_is_killed", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    let form = if place.1 == LayerForm::Erofs { "erofs" } else { "directories" };
    command
        .env(ROOT, place.path(""))
        .env(FORM, form)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
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
    // One time in four it may be killed while it opens the store; else it gets to do something on a slow machine too.
    if !seed.is_multiple_of(4) {
        is_open.recv().expect("it opens the store");
    }
    std::thread::sleep(after);
    child.kill().unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.code().is_none(), "it ended by itself: {}", String::from_utf8_lossy(&ended.stderr));
    lines
        .join()
        .unwrap()
        .iter()
        .filter_map(|line| line.strip_prefix("@ "))
        .filter(|line| *line != "opened")
        .for_each(|line| expected.note(line));
}

/// Looks at everything after a crash, and settles what is now.
fn verify(place: &Place, root: &Path, expected: &mut Expected) {
    let store = Store::open(root, options()).unwrap();
    assert_eq!(std::fs::read_dir(place.path("tmp")).unwrap().count(), 0, "something half-made was left");
    assert_eq!(store.check().unwrap().faults, []);
    for (name, may) in &mut expected.names {
        let target = store.image(&name.parse().unwrap()).unwrap();
        let thread: u64 = name[1..2].parse().unwrap();
        let numbers = (0..IMAGES).map(|number| thread * 100 + number);
        let found = target.map(|target| {
            numbers.into_iter().find(|number| image(*number).target == target).expect("it points to one of ours")
        });
        assert!(may.contains(&found), "{name} is {found:?}, may be {may:?}");
        if let Some(number) = found {
            whole(&store, number);
        }
        *may = [found].into();
    }
    for (key, may) in &mut expected.snapshots {
        let found = store.snapshot(key).unwrap();
        assert!(may.contains(&found.is_some()), "snapshot {key}: {found:?}, may be there: {may:?}");
        if let Some(snapshot) = found.as_ref().filter(|_| may.len() == 1) {
            assert_eq!(std::fs::read(snapshot.upper().join("written")).unwrap(), key.as_bytes());
        }
        if let Some(snapshot) = &found {
            drop(snapshot.mount().unwrap());
            // One that was killed before it was written to is written to now.
            std::fs::write(snapshot.upper().join("written"), key).unwrap();
        }
        *may = [found.is_some()].into();
    }
}

/// Every blob of an image is here, and its layers are unpacked right.
fn whole(store: &Store, number: u64) {
    let made = image(number);
    for bytes in made.tars.iter().chain([&made.config, &made.manifest]) {
        assert!(store.read_blob(&sha256(bytes), 1 << 20).unwrap() == *bytes);
    }
    let mut chain = Some(made.top.clone());
    let mut index = made.tars.len();
    while let Some(top) = chain {
        index -= 1;
        let layer = store.layer(&top).unwrap().expect("a layer of a named image is here");
        let tree = store.open_layer(&top).unwrap();
        let dir = PathBuf::from(format!("/proc/self/fd/{}", tree.as_raw_fd()));
        let own = if index == 0 { number % 3 } else { number };
        for (name, bytes) in layer_files(own, index) {
            assert!(std::fs::read(dir.join(&name)).unwrap() == bytes, "{name} of layer {index} of image {number}");
        }
        chain = layer.parent;
    }
    assert_eq!(index, 0);
}

/// After everything was removed nothing is left.
fn nothing_leaks(place: &Place, root: &Path) {
    let store = Store::open(root, options()).unwrap();
    for snapshot in store.snapshots().unwrap() {
        store.remove_snapshot(snapshot.key()).unwrap();
    }
    for image in store.images().unwrap() {
        store.remove_target(&image.target.digest).unwrap();
    }
    let later = store.now() + 25 * 3_600_000_000_000;
    store.collect(&Policy::unreferenced(), later, false).unwrap();
    let usage = store.usage().unwrap();
    assert_eq!((usage.blobs.count, usage.layers.count, usage.images), (0, 0, 0), "{usage:?}");
    for dir in ["content/blobs/sha256", "layers", "snapshots", "ingest", "tmp", "leases"] {
        assert_eq!(std::fs::read_dir(place.path(dir)).unwrap().count(), 0, "{dir}");
    }
    for _ in 0..400 {
        if std::fs::read_dir(place.path("trash")).unwrap().count() == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the trash is not emptied");
}

/// Prints a line also of a test that passes, which the harness would hide.
fn tell(line: &str) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr(), "{name}: {line}");
}

#[test]
fn kills_lose_nothing() {
    kills(&Place::new(), KILLS);
}

#[test]
fn kills_lose_no_images() {
    if let Some(place) = Place::of_images() {
        kills(&place, IMAGE_KILLS);
    }
}

fn kills(place: &Place, kills: u64) {
    let given = std::env::var("GANTRY_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed: u64 = given.unwrap_or_else(|| u64::from(std::process::id()) ^ 0x5eed);
    tell(&format!("{kills} kills with seed {seed}: GANTRY_SEED={seed} does the same again, as far as the kernel does"));
    let root = place.path("");
    let mut random = Random(seed);
    let (mut expected, mut done) = (Expected::default(), BTreeMap::new());
    for kill in 0..kills {
        let after = Duration::from_micros(random.next() % 80_000);
        run_and_kill(place, random.next(), after, &mut expected);
        verify(place, &root, &mut expected);
        if kill % 40 == 39 {
            nothing_leaks(place, &root);
            for (word, count) in std::mem::take(&mut expected).done {
                *done.entry(word).or_insert(0) += count;
            }
        }
    }
    tell(&format!("done in {kills} runs: {done:?}"));
    for word in ["tag!", "untag!", "make!", "remove!"] {
        assert!(done.get(word).is_some_and(|count| *count > kills / 5), "too little was done: {done:?}");
    }
}

#[test]
fn kills_while_a_store_is_made() {
    let given = std::env::var("GANTRY_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed: u64 = given.unwrap_or_else(|| u64::from(std::process::id()) ^ 0xb1a7);
    tell(&format!("{BIRTHS} births with seed {seed}: GANTRY_SEED={seed} does the same again"));
    let mut random = Random(seed);
    for _ in 0..BIRTHS {
        let place = Place::new();
        let (root, mut expected) = (place.path(""), Expected::default());
        // A multiple of four: the process is not waited for until it has opened the store.
        run_and_kill(&place, (random.next() % 1000) * 4, Duration::from_micros(random.next() % 12_000), &mut expected);
        verify(&place, &root, &mut expected);
    }
}

/// What a crash in the middle of the making leaves is not taken for a database.
#[test]
fn half_a_database() {
    let place = Place::new();
    let half = place.path("tmp/store.redb");
    std::fs::create_dir_all(half.parent().unwrap()).unwrap();
    std::fs::write(&half, vec![0; 1 << 20]).unwrap();
    let store = Store::open(&place.path(""), options()).unwrap();
    assert_eq!(store.check().unwrap().faults, []);
    assert!(!half.exists());
}
