//! What must be after a crash, by what was written down before it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use gantry_engine::container::Status;
use gantry_engine::logs::Query;
use gantry_engine::{Engine, View};

use crate::load::{Kind, SLOTS};

/// Whether a container is there.
#[derive(Clone, Debug, Default, PartialEq)]
enum Presence {
    #[default]
    Absent,
    Maybe,
    Here(String),
}

/// Whether it runs.
#[derive(Clone, Debug, Default, PartialEq)]
enum Run {
    #[default]
    Any,
    /// With this process.
    Pid(i32),
    /// It was stopped by hand.
    Stopped,
}

#[derive(Debug, Default)]
struct Slot {
    presence: Presence,
    /// Names that it may have; none is any.
    names: Vec<String>,
    run: Run,
    paused: Option<bool>,
}

/// What must be.
#[derive(Default)]
pub struct Expected {
    slots: BTreeMap<usize, Slot>,
    /// How often each thing was done.
    done: BTreeMap<String, u64>,
    /// Lines of logs that were looked at the last time.
    lines: u64,
}

impl Expected {
    /// Takes in what was written down.
    pub fn note(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = words[1].parse().unwrap();
        *self.done.entry(words[0].to_owned()).or_default() += 1;
        let slot = self.slots.entry(number).or_default();
        match words[0] {
            "create?" => {
                (slot.presence, slot.names, slot.run) = (Presence::Maybe, vec![format!("x{number}")], Run::Any);
            }
            "create!" => slot.presence = Presence::Here(words[2].to_owned()),
            "start?" | "restart?" | "stop?" => (slot.run, slot.paused) = (Run::Any, None),
            "start!" => {
                let pid: i32 = words[2].parse().unwrap();
                slot.run = if pid == 0 { Run::Any } else { Run::Pid(pid) };
                slot.paused = Some(false);
            }
            "stop!" => slot.run = Run::Stopped,
            "remove?" => (slot.presence, slot.run, slot.paused) = (Presence::Maybe, Run::Any, None),
            "remove!" => slot.presence = Presence::Absent,
            "rename?" => slot.names.push(words[2].to_owned()),
            "rename!" => slot.names = vec![words[2].to_owned()],
            "pause?" | "unpause?" => slot.paused = None,
            "pause!" => slot.paused = Some(true),
            "unpause!" => slot.paused = Some(false),
            "exec!" => {}
            other => panic!("{other}"),
        }
    }

    /// Looks at everything after a crash, and settles what is now.
    pub async fn verify(&mut self, engine: &Engine, kill: u64) {
        let views = engine.containers();
        let mut found: BTreeMap<usize, View> = BTreeMap::new();
        for view in views {
            let slot = view.record.name[1..].parse().unwrap();
            assert!(found.insert(slot, view).is_none(), "kill {kill}: slot {slot} is there twice");
        }
        unique(found.values());
        self.lines = 0;
        for number in 0..SLOTS {
            let (kind, view) = (Kind::of(number), found.get(&number));
            let slot = self.slots.entry(number).or_default();
            slot.check(kind, view, &format!("kill {kill}, slot {number} ({kind:?})"));
            if let Some(view) = view {
                self.lines += whole_log(engine, view, kind).await;
            }
            slot.settle(kind, view);
        }
    }

    /// Says what was done; everything must have been.
    pub fn report(&self) {
        println!("{:?}; {} lines in the logs", self.done, self.lines);
        for what in ["create!", "start!", "restart?", "stop!", "remove!", "rename!", "pause!", "exec!"] {
            assert!(self.done.contains_key(what), "{what} never happened");
        }
    }
}

impl Slot {
    fn check(&self, kind: Kind, view: Option<&View>, what: &str) {
        let goes = matches!(kind, Kind::Removed | Kind::SteadyRemoved);
        let Some(view) = view else {
            let lost = matches!(self.presence, Presence::Here(_))
                && !(goes && kind == Kind::Removed)
                && !(goes && matches!(self.run, Run::Stopped | Run::Any));
            assert!(!lost, "{what}: lost, {self:?}");
            return;
        };
        assert!(self.presence != Presence::Absent, "{what}: it was removed and is there, {:?}", view.state);
        if let Presence::Here(id) = &self.presence {
            assert_eq!(*id, view.record.id, "{what}");
        }
        assert!(self.names.contains(&view.record.name), "{what}: {} of {:?}", view.record.name, self.names);
        let state = &view.state;
        // Codes that nobody saw are for monitors that were killed, and none was.
        assert!(![255, 128, 126, 127].contains(&state.exit_code), "{what}: {state:?}");
        assert_eq!(state.error, "", "{what}: {state:?}");
        if state.status.is_running() {
            assert!(Path::new(&format!("/proc/{}", state.pid)).exists() || !kind.is_steady(), "{what}: {state:?}");
        }
        match &self.run {
            Run::Pid(pid) if kind.is_steady() => {
                assert!(state.status.is_running() && state.pid == *pid, "{what}: was {pid}, is {state:?}");
            }
            Run::Stopped if kind != Kind::Again => {
                let rests = matches!(state.status, Status::Exited | Status::Created);
                assert!(rests, "{what}: it was stopped, {state:?}");
            }
            _ => {}
        }
        if let (Some(paused), Run::Pid(_), true) = (self.paused, &self.run, kind.is_steady()) {
            assert_eq!(state.status == Status::Paused, paused, "{what}: {state:?}");
        }
        if let (Kind::Ends(code), Status::Exited) = (kind, state.status) {
            let codes = [code, 137, 0];
            assert!(codes.contains(&state.exit_code), "{what}: {state:?}");
        }
    }

    /// What is, is what must be from now on.
    fn settle(&mut self, kind: Kind, view: Option<&View>) {
        *self = match view {
            None => Self::default(),
            Some(view) => Self {
                presence: Presence::Here(view.record.id.clone()),
                names: vec![view.record.name.clone()],
                run: match view.state.status {
                    Status::Running | Status::Paused if kind.is_steady() => Run::Pid(view.state.pid),
                    _ if view.state.stopped_by_hand => Run::Stopped,
                    _ => Run::Any,
                },
                paused: Some(view.state.status == Status::Paused),
            },
        };
    }
}

/// No address and no port is given twice.
fn unique<'a>(views: impl Iterator<Item = &'a View>) {
    let (mut addresses, mut ports) = (HashSet::new(), HashSet::new());
    for view in views.filter(|view| view.state.status.is_running()) {
        for endpoint in view.state.endpoints.values() {
            assert!(addresses.insert(endpoint.ipv4.clone()), "{} is given twice", endpoint.ipv4);
        }
        for port in &view.state.ports {
            // The same number of IPv4 and of IPv6 is one for each.
            let (ip, number) = (&port.host_ip, port.host_port);
            assert!(ports.insert((ip.clone(), number)), "port {number} of {ip} is given twice");
        }
        let name = &view.record.name;
        // Of each, one of IPv4 and one of IPv6, where the host has that.
        let (bound, asked) = (view.state.ports.len(), view.record.network.ports.len());
        assert!((asked..=2 * asked).contains(&bound), "ports of {name}: {bound} of {asked}");
    }
}

/// The numbers in a log follow upon each other; each run begins with 1.
async fn whole_log(engine: &Engine, view: &View, kind: Kind) -> u64 {
    let query = Query { stdout: true, stderr: true, ..Query::default() };
    let mut logs = match engine.logs(&view.record.id, query).await {
        Ok(logs) => logs,
        Err(error) if kind.is_steady() => panic!("{}: {error}", view.record.name),
        Err(_) => return 0,
    };
    let (mut last, mut lines) = (0_u64, 0);
    while let Some(entries) = logs.next().await.unwrap_or_default() {
        for entry in entries {
            let text = String::from_utf8(entry.bare().to_vec()).unwrap();
            let number: u64 = text.parse().unwrap_or_else(|_| panic!("{}: {text:?}", view.record.name));
            assert!(number == last + 1 || number == 1, "{}: {number} after {last}", view.record.name);
            last = number;
            lines += 1;
        }
    }
    lines
}
