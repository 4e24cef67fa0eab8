//! What the process that is killed does until then: each of several tasks has containers of its own, and does to them
//! whatever may be done.

use std::io::Write as _;

use gantry_engine::container::Status;
use gantry_engine::request::{
    CreateContainer, CreateExec, Network, NetworkMode, Publish, RemoveOptions, Restart, StopOptions,
};
use gantry_engine::{Engine, Error};

use crate::kit::shell;

pub const NETWORK: &str = "crashnet";
/// Containers, and tasks that share them out.
pub const SLOTS: usize = 50;
const TASKS: usize = 5;
/// Writes numbers, and never ends.
const NUMBERS: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";

/// Numbers that only look random.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Kinds of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Writes numbers without end.
    Steady,
    /// The same, and goes away when it ends.
    SteadyRemoved,
    /// Ends with a code, and stays so.
    Ends(i32),
    /// Ends, and goes away.
    Removed,
    /// Ends and is started again.
    Again,
}

impl Kind {
    pub fn of(slot: usize) -> Self {
        match slot % 10 {
            0 | 1 | 2 | 8 => Self::Steady,
            3 => Self::Removed,
            4 | 5 => Self::Again,
            6 => Self::Ends(7),
            7 => Self::SteadyRemoved,
            _ => Self::Ends(42),
        }
    }

    /// Whether its process ends only when it is made to.
    pub fn is_steady(self) -> bool {
        matches!(self, Self::Steady | Self::SteadyRemoved)
    }
}

fn request(slot: usize, name: String) -> CreateContainer {
    let mut request = shell(match slot % 10 {
        0 | 1 | 2 | 7 | 8 => NUMBERS,
        3 => "echo 1",
        4 => "echo 1; sleep 0.2; exit 1",
        5 => "echo 1; exit 3",
        6 => "exit 7",
        _ => "echo 1; sleep 0.3; exit 42",
    });
    request.name = Some(name);
    let named = || Network { mode: NetworkMode::Named(NETWORK.to_owned()), ..Network::default() };
    match slot % 10 {
        0 | 3 => request.network = named(),
        1 => {
            request.network = named();
            let port = "80".parse().unwrap();
            request.network.ports =
                vec![Publish { port, host_ip: String::new(), host_port: format!("{}", 20000 + slot) }];
            request.host.restart = Restart::UnlessStopped;
        }
        2 => request.host.binds = vec![format!("vol{slot}:/data")],
        4 => {
            request.network = named();
            request.host.restart = Restart::Always;
        }
        5 => request.host.restart = Restart::OnFailure(0),
        8 => request.network = Network::default(),
        6 | 7 => drop(request.config.volumes.insert("/anonymous".to_owned())),
        _ => {}
    }
    request.host.auto_remove = matches!(Kind::of(slot), Kind::Removed | Kind::SteadyRemoved);
    request
}

/// Writes down what is or was done, in one write.
pub fn say(line: &str) {
    // Not through the harness, which would keep it.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n@ {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Goes on until it is killed.
pub async fn all(engine: &Engine, seed: u64) {
    let tasks = (0..TASKS).map(|task| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut random = Random(seed.wrapping_mul(31).wrapping_add(task as u64));
            loop {
                let slot = task + TASKS * (random.next() as usize % (SLOTS / TASKS));
                let done = step(&engine, slot, &mut random).await;
                if let Err(error) = done
                    && !may_be(&error, Kind::of(slot))
                {
                    panic!("slot {slot}: {error}");
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        if task.await.is_err() {
            // The panic has said why.
            std::process::abort();
        }
    }
}

/// Whether an error is only that a container ended of itself in the meantime.
fn may_be(error: &Error, kind: Kind) -> bool {
    let known = [
        "not running",
        "is running",
        "restarting",
        "No such container",
        "removal of",
        "started meanwhile",
        "is paused",
    ];
    let text = error.to_string();
    !matches!(kind, Kind::Steady) && known.iter().any(|words| text.contains(words))
}

/// What is done to one container.
async fn step(engine: &Engine, slot: usize, random: &mut Random) -> Result<(), Error> {
    // No digits of hexadecimal numbers: those would be taken for the beginnings of ids.
    let names = [format!("x{slot}"), format!("y{slot}")];
    let Some(found) = names.iter().find_map(|name| engine.container(name).ok()) else {
        say(&format!("create? {slot}"));
        let id = engine.create(request(slot, names[0].clone())).await?.id;
        say(&format!("create! {slot} {id}"));
        return start(engine, slot, &id).await;
    };
    let (id, status) = (found.record.id.clone(), found.state.status);
    if status == Status::Paused {
        say(&format!("unpause? {slot}"));
        engine.unpause(&id).await?;
        say(&format!("unpause! {slot}"));
        return Ok(());
    }
    let quick = StopOptions { signal: None, timeout: Some(0) };
    match random.next() % 12 {
        0..=2 if status != Status::Running => start(engine, slot, &id).await?,
        0 | 1 | 4 => {
            say(&format!("stop? {slot}"));
            match engine.stop(&id, quick).await {
                Err(Error::NotModified(_)) => {}
                done => done?,
            }
            say(&format!("stop! {slot}"));
        }
        2 => {
            say(&format!("restart? {slot}"));
            engine.restart(&id, quick).await?;
            say_pid(engine, slot, &id);
        }
        5 | 6 => {
            say(&format!("remove? {slot}"));
            match engine.remove(&id, RemoveOptions { force: true, volumes: true }).await {
                Err(error) if error.is_missing() => {}
                done => done?,
            }
            say(&format!("remove! {slot}"));
        }
        7 | 8 => {
            let new = &names[usize::from(found.record.name == names[0])];
            say(&format!("rename? {slot} {new}"));
            engine.rename(&id, new).await?;
            say(&format!("rename! {slot} {new}"));
        }
        9 if status == Status::Running => {
            say(&format!("pause? {slot}"));
            engine.pause(&id).await?;
            say(&format!("pause! {slot}"));
        }
        _ if status == Status::Running && Kind::of(slot).is_steady() => {
            let args = ["sh", "-c", "exit 5"].map(str::to_owned).to_vec();
            let exec = engine.create_exec(&id, CreateExec { args, ..CreateExec::default() })?;
            engine.start_exec(&exec, true, None).await?;
            let code = engine.wait_exec(&exec).await?;
            assert_eq!(code, 5, "slot {slot}");
            say(&format!("exec! {slot}"));
        }
        _ => tokio::task::yield_now().await,
    }
    Ok(())
}

async fn start(engine: &Engine, slot: usize, id: &str) -> Result<(), Error> {
    say(&format!("start? {slot}"));
    match engine.start(id).await {
        Err(Error::NotModified(_)) => {}
        done => done?,
    }
    say_pid(engine, slot, id);
    Ok(())
}

fn say_pid(engine: &Engine, slot: usize, id: &str) {
    if let Ok(view) = engine.container(id) {
        say(&format!("start! {slot} {}", view.state.pid));
    }
}
