//! The containers that there are: found by id, by name, and by the beginning of an id.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use gantry_model::monitor::Attach;
use tokio::sync::watch;

use crate::container::{Record, State, Status};
use crate::error::{Error, Result};

/// A lock that is of use even after a panic: what it guards is written in one go.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What those who wait for a container look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moment {
    /// The state.
    pub(crate) state: Arc<State>,
    /// How many of its processes have ended since the engine began.
    pub(crate) exits: u64,
    /// Whether it was removed.
    pub(crate) gone: bool,
}

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its id.
    pub(crate) id: String,
    record: RwLock<Arc<Record>>,
    moment: watch::Sender<Moment>,
    /// Held by who changes where it is in its life.
    pub(crate) life: tokio::sync::Mutex<()>,
    /// Clients that attached before there was a process.
    pub(crate) early: Mutex<Vec<(Attach, OwnedFd)>>,
    /// Tasks of the present run, which end with it.
    pub(crate) tasks: Mutex<Vec<tokio::task::AbortHandle>>,
    /// Who sends its log elsewhere.
    pub(crate) shipping: Mutex<Option<tokio::task::AbortHandle>>,
    /// Counts the runs and whatever else makes a planned restart void.
    pub(crate) turn: Mutex<u64>,
}

impl Container {
    pub(crate) fn new(record: Record, state: State) -> Self {
        Self {
            id: record.id.clone(),
            record: RwLock::new(Arc::new(record)),
            moment: watch::Sender::new(Moment { state: Arc::new(state), exits: 0, gone: false }),
            life: tokio::sync::Mutex::default(),
            early: Mutex::default(),
            tasks: Mutex::default(),
            shipping: Mutex::default(),
            turn: Mutex::default(),
        }
    }

    /// What it is to be.
    pub(crate) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_record(&self, record: Record) -> Arc<Record> {
        let record = Arc::new(record);
        *self.record.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&record);
        record
    }

    /// The state it is in.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.moment.borrow().state)
    }

    /// Changes the state; returns the new one.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) -> Arc<State> {
        self.moment.send_modify(|moment| change(Arc::make_mut(&mut moment.state)));
        self.state()
    }

    /// Changes the state after the end of a process.
    pub(crate) fn ended(&self, change: impl FnOnce(&mut State)) -> Arc<State> {
        self.moment.send_modify(|moment| {
            change(Arc::make_mut(&mut moment.state));
            moment.exits += 1;
        });
        self.state()
    }

    /// Says that it was removed.
    pub(crate) fn say_gone(&self) {
        self.moment.send_modify(|moment| moment.gone = true);
    }

    /// To wait for changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Moment> {
        self.moment.subscribe()
    }

    /// Whether it was removed.
    pub(crate) fn is_gone(&self) -> bool {
        self.moment.borrow().gone
    }

    /// Waits for its life. Whoever had it may have removed the container: what was written of it then would bring it back.
    pub(crate) async fn hold(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        let life = self.life.lock().await;
        if self.is_gone() { Err(Error::NoSuch("container", self.id.clone())) } else { Ok(life) }
    }

    /// A number for what is planned now; a later call makes it void.
    pub(crate) fn next_turn(&self) -> u64 {
        let mut turn = lock(&self.turn);
        *turn += 1;
        *turn
    }

    /// Ends the tasks of a run.
    pub(crate) fn end_tasks(&self) {
        lock(&self.tasks).drain(..).for_each(|task| task.abort());
    }
}

/// The containers, and the names.
#[derive(Debug, Default)]
pub(crate) struct Containers {
    by_id: BTreeMap<String, Arc<Container>>,
    /// Names that are taken, and by whom; a name is taken before its container is there.
    names: HashMap<String, String>,
}

impl Containers {
    /// Takes a name for an id.
    pub(crate) fn take_name(&mut self, name: &str, id: &str) -> Result<()> {
        if let Some(by) = self.names.get(name) {
            Err(Error::NameTaken { name: format!("/{name}"), by: by.clone() })
        } else {
            self.names.insert(name.to_owned(), id.to_owned());
            Ok(())
        }
    }

    /// Gives a name back.
    pub(crate) fn free_name(&mut self, name: &str) {
        self.names.remove(name);
    }

    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub(crate) fn insert(&mut self, container: Arc<Container>) {
        self.by_id.insert(container.id.clone(), container);
    }

    /// Takes a container out, with its name.
    pub(crate) fn remove(&mut self, container: &Container) {
        let name = container.record().name.clone();
        if self.names.get(&name).is_some_and(|id| *id == container.id) {
            self.names.remove(&name);
        }
        self.by_id.remove(&container.id);
    }

    /// All of them, by id.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.by_id.values().cloned().collect()
    }

    /// Finds one by id, name, or the beginning of an id.
    pub(crate) fn find(&self, asked: &str) -> Result<Arc<Container>> {
        let missing = || Error::NoSuch("container", asked.to_owned());
        let name = asked.strip_prefix('/').unwrap_or(asked);
        if let Some(found) = self.by_id.get(asked) {
            return Ok(Arc::clone(found));
        }
        if let Some(id) = self.names.get(name) {
            return self.by_id.get(id).cloned().ok_or_else(missing);
        }
        if asked.is_empty() || !asked.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut found = self.by_id.range(asked.to_owned()..).take_while(|(id, _)| id.starts_with(asked));
        let (first, second) = (found.next(), found.next());
        match (first, second) {
            (Some((_, one)), None) => Ok(Arc::clone(one)),
            (Some(_), Some(_)) => Err(Error::Ambiguous("container", asked.to_owned())),
            _ => Err(missing()),
        }
    }
}

/// How many containers are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub all: usize,
    /// Those that run, and are not paused.
    pub running: usize,
    /// Those that are paused.
    pub paused: usize,
    /// The rest.
    pub stopped: usize,
}

impl Counts {
    /// Counts.
    pub(crate) fn of<'a>(containers: impl Iterator<Item = &'a Arc<Container>>) -> Self {
        let mut counts = Self::default();
        for container in containers {
            counts.all += 1;
            match container.state().status {
                Status::Running => counts.running += 1,
                Status::Paused => counts.paused += 1,
                _ => counts.stopped += 1,
            }
        }
        counts
    }
}
