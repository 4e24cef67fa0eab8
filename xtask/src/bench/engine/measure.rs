//! The measurement itself: runs inside the peers' box.

use super::engines::{Contestant, Engines, run};
use super::{speak, who, work};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Values per work, per contestant, in the order measured.
type Samples = BTreeMap<String, BTreeMap<String, Vec<f64>>>;

/// A part of the measurement.
type Work = fn(&mut Ground) -> Result<()>;

/// How many containers are measured for memory and removed by one command.
const FIFTY: usize = 50;
/// How many come and go before the memory of an idle daemon is taken.
const HUNDRED: usize = 100;
/// How long a daemon is left alone before that.
const REST: Duration = Duration::from_secs(5);
/// How many requests are under way at once where many are made.
const WIDTH: usize = 24;
/// Rounds of what takes long, at most.
const FEW: usize = 3;

struct Ground {
    engines: Engines,
    rounds: usize,
    many: usize,
    samples: Samples,
}

/// `bench measure-engine ROUNDS MANY WORK PROGRAM RUNTIME DIRECTORY CGROUP`: prints one line of JSON.
pub fn main(args: &[String]) -> Result<ExitCode> {
    let [rounds, many, only, program, runtime, dir, cgroup] = args else {
        bail!("bench measure-engine ROUNDS MANY WORK PROGRAM RUNTIME DIRECTORY CGROUP");
    };
    let works: [(&str, Work); 6] = [
        ("run", run_and_remove),
        ("exec", exec),
        ("network", network),
        ("fifty", fifty),
        ("idle", idle),
        ("many", many_at_once),
    ];
    ensure!(only == "all" || works.iter().any(|(name, _)| name == only), "no work is called {only:?}");
    let engines = Engines::start(Path::new(dir), Path::new(program), Path::new(runtime), cgroup)?;
    let rounds = rounds.parse().context("the number of rounds")?;
    let many = many.parse().context("the number of containers")?;
    let mut ground = Ground { engines, rounds, many, samples: Samples::new() };
    for (name, work) in works.into_iter().filter(|(name, _)| only == "all" || name == only) {
        eprintln!("bench: {name}");
        work(&mut ground).with_context(|| format!("measure {name}"))?;
    }
    println!("{}", json!(ground.samples));
    Ok(ExitCode::SUCCESS)
}

impl Ground {
    fn note(&mut self, work: &str, contestant: &str, value: f64) {
        self.samples.entry(work.into()).or_default().entry(contestant.into()).or_default().push(value);
    }

    /// A client's command.
    fn client(&self, contestant: Contestant, args: &[&str]) -> Command {
        let mut command = self.engines.client(contestant);
        command.args(args);
        command
    }

    /// All take turns, after a round that does not count.
    fn turns(&mut self, work: &str, measure: impl Fn(&Self, Contestant) -> Result<f64>) -> Result<()> {
        for round in 0..=self.rounds {
            for contestant in Contestant::ALL {
                let value = measure(self, contestant)?;
                if round > 0 {
                    self.note(work, contestant.name(), value);
                }
            }
        }
        Ok(())
    }
}

/// Seconds from before a client starts until it has ended.
fn seconds(command: &mut Command) -> Result<f64> {
    let started = Instant::now();
    run(command)?;
    Ok(started.elapsed().as_secs_f64())
}

fn run_and_remove(ground: &mut Ground) -> Result<()> {
    ground.turns(work::RUN, |ground, contestant| {
        Ok(seconds(&mut ground.client(contestant, &["run", "--rm", "busybox", "/bin/true"]))? * 1e3)
    })
}

fn exec(ground: &mut Ground) -> Result<()> {
    // What a client takes that has next to nothing to ask for.
    ground
        .turns(work::VERSION, |ground, contestant| Ok(seconds(&mut ground.client(contestant, &["version"]))? * 1e3))?;
    for contestant in Contestant::ALL {
        let name = format!("{}-exec", contestant.prefix());
        run(&mut ground.client(contestant, &["run", "-d", "--name", &name, "busybox", "/bin/sleep", "100000"]))?;
    }
    ground.turns(work::EXEC, |ground, contestant| {
        let name = format!("{}-exec", contestant.prefix());
        Ok(seconds(&mut ground.client(contestant, &["exec", &name, "/bin/true"]))? * 1e3)
    })?;
    for contestant in Contestant::ALL {
        run(&mut ground.client(contestant, &["rm", "-f", &format!("{}-exec", contestant.prefix())]))?;
    }
    Ok(())
}

/// A published port, and a second network for a container that runs.
fn network(ground: &mut Ground) -> Result<()> {
    ground.turns(work::PUBLISHED, |ground, contestant| {
        Ok(seconds(&mut ground.client(contestant, &["run", "--rm", "-p", "80", "busybox", "/bin/true"]))? * 1e3)
    })?;
    let names = |contestant: Contestant| [contestant.prefix().to_owned() + "-net", contestant.prefix().to_owned()];
    for contestant in Contestant::ALL {
        let [network, name] = names(contestant);
        run(&mut ground.client(contestant, &["network", "create", &network]))?;
        run(&mut ground.client(contestant, &["run", "-d", "--name", &name, "busybox", "/bin/sleep", "100000"]))?;
    }
    ground.turns(work::CONNECT, |ground, contestant| {
        let [network, name] = names(contestant);
        let taken = seconds(&mut ground.client(contestant, &["network", "connect", &network, &name]))?;
        run(&mut ground.client(contestant, &["network", "disconnect", &network, &name]))?;
        Ok(taken * 1e3)
    })?;
    for contestant in Contestant::ALL {
        let [network, name] = names(contestant);
        run(&mut ground.client(contestant, &["rm", "-f", &name]))?;
        run(&mut ground.client(contestant, &["network", "rm", &network]))?;
    }
    Ok(())
}

/// Fifty containers with a log and a published port: what they take, and how fast they are removed by one command.
fn fifty(ground: &mut Ground) -> Result<()> {
    for _ in 0..ground.rounds.min(FEW) {
        for contestant in Contestant::ALL {
            let names: Vec<String> = (0..FIFTY).map(|number| format!("{}-{number}", contestant.prefix())).collect();
            in_parallel(FIFTY, 4, &|number| {
                let args = ["run", "-d", "-p", "80", "--name", &names[number], "busybox", "/bin/sleep", "100000"];
                run(&mut ground.client(contestant, &args))
            })?;
            let (memory, processes) = Engines::memory_of_containers(contestant)?;
            ensure!(processes >= FIFTY, "{FIFTY} containers have {processes} processes");
            if contestant != Contestant::Mixed {
                #[allow(clippy::cast_precision_loss, reason = "it is 50")]
                ground.note(work::MEMORY, contestant.name(), memory / FIFTY as f64);
            }
            let taken = seconds(ground.client(contestant, &["rm", "-f"]).args(&names))?;
            ground.note(work::REMOVE, contestant.name(), taken);
        }
    }
    Ok(())
}

/// What the daemons themselves take after containers came and went.
fn idle(ground: &mut Ground) -> Result<()> {
    for contestant in [Contestant::Mixed, Contestant::Theirs] {
        in_parallel(HUNDRED, 4, &|_| run(&mut ground.client(contestant, &["run", "--rm", "busybox", "/bin/true"])))?;
    }
    std::thread::sleep(REST);
    for contestant in [Contestant::Ours, Contestant::Theirs] {
        let memory = ground.engines.memory(contestant)?;
        ground.note(work::IDLE, contestant.name(), memory);
    }
    Ok(())
}

/// Many containers of ours started at once, and what one more costs before and after.
fn many_at_once(ground: &mut Ground) -> Result<()> {
    more(ground, who::ALONE)?;
    let started = Instant::now();
    in_parallel(ground.many, WIDTH, &|number| speak::create_and_start(&format!("many-{number}")))?;
    let taken = started.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    ground.note(work::RATE, who::OURS, ground.many as f64 / taken);
    let (memory, running) = Engines::memory_of_containers(Contestant::Ours)?;
    ensure!(running == ground.many, "of {} containers {running} have a monitor", ground.many);
    let memory = memory + ground.engines.memory(Contestant::Ours)?;
    ground.note(work::MANY_MEMORY, who::OURS, memory);
    more(ground, who::CROWDED)?;
    let names: Vec<String> = (0..ground.many).map(|number| format!("many-{number}")).collect();
    run(ground.client(Contestant::Ours, &["rm", "-f"]).args(&names))
}

/// What one more container costs: it is made, and removed without being counted.
fn more(ground: &mut Ground, who: &str) -> Result<()> {
    for round in 0..=ground.rounds * 2 {
        let started = Instant::now();
        speak::create_and_start("one-more")?;
        let taken = started.elapsed().as_secs_f64() * 1e3;
        run(&mut ground.client(Contestant::Ours, &["rm", "-f", "one-more"]))?;
        if round > 0 {
            ground.note(work::NTH, who, taken);
        }
    }
    Ok(())
}

/// Does something for each number below a count, so many at once. The first failure is told when all have ended.
fn in_parallel(count: usize, width: usize, each: &(dyn Fn(usize) -> Result<()> + Sync)) -> Result<()> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..width.min(count) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    if let Err(error) = each(number)
                        && let Ok(mut failed) = failed.lock()
                    {
                        failed.push(error);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    let count_failed = failed.len();
    match failed.into_iter().next() {
        Some(error) => Err(error.context(format!("{count_failed} of {count} failed"))),
        None => Ok(()),
    }
}
