//! The keeper: one thread of the store for all that nobody waits for.
//!
//! It removes what was thrown away, syncs layers, makes rows durable, ends leases and beginnings of blobs that nobody came
//! back for, and collects when something was removed or the store has grown too large. It sleeps unless it is called.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::syncfs;

use crate::dirs::open_dir;
use crate::error::Result;
use crate::rows::{LAYERS, LayerRow};
use crate::store::{Inner, Store};
use crate::{collect, erofs, lease};

/// Between two looks at what is over.
const ROUND: Duration = Duration::from_secs(600);

/// What the keeper is told.
enum Call {
    /// Something was thrown away or written.
    Work,
    /// Something was removed that may have been the last to refer to something.
    Removed,
    /// Something was added.
    Grown,
}

/// The owner's end of the keeper.
pub(crate) struct Keeper {
    calls: Mutex<Option<Sender<Call>>>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    /// Starts the thread.
    pub(crate) fn start(inner: &Arc<Inner>) -> Result<Self> {
        let (sender, receiver) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work { inner: Arc::clone(inner), stop: Arc::clone(&stop) };
        let spawned = std::thread::Builder::new().name("store keeper".into()).spawn(move || work.run(&receiver));
        let thread = spawned.map_err(|error| inner.dirs.error("start the store's thread", error))?;
        let keeper = Self { calls: Mutex::new(Some(sender)), stop, thread: Mutex::new(Some(thread)) };
        keeper.call(Call::Work);
        Ok(keeper)
    }

    /// Ends the thread, and waits for it.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.calls.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's thread ended with a panic");
        }
    }

    /// Something was thrown away or written.
    pub(crate) fn work(&self) {
        self.call(Call::Work);
    }

    /// Something was removed.
    pub(crate) fn removed(&self) {
        self.call(Call::Removed);
    }

    /// Something was added.
    pub(crate) fn grown(&self) {
        self.call(Call::Grown);
    }

    fn call(&self, call: Call) {
        if let Some(calls) = &*self.calls.lock().unwrap_or_else(PoisonError::into_inner) {
            // Without a listener the store is closing.
            calls.send(call).unwrap_or_default();
        }
    }
}

struct Work {
    inner: Arc<Inner>,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn run(&self, calls: &Receiver<Call>) {
        let mut removed = false;
        loop {
            match calls.recv_timeout(ROUND) {
                Ok(call) => {
                    removed |= matches!(call, Call::Removed);
                    let until = Instant::now() + self.inner.options.pause;
                    loop {
                        match calls.recv_timeout(until.saturating_duration_since(Instant::now())) {
                            Ok(call) => removed |= matches!(call, Call::Removed),
                            Err(RecvTimeoutError::Timeout) => break,
                            Err(RecvTimeoutError::Disconnected) => return,
                        }
                    }
                }
                // What was too young to be collected is older now.
                Err(RecvTimeoutError::Timeout) => removed = true,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.round(std::mem::take(&mut removed));
        }
    }

    fn round(&self, removed: bool) {
        let inner = &*self.inner;
        let tell = |what: &str, result: Result<()>| {
            if let Err(error) = result {
                tracing::warn!(%error, "{what}: tried again later");
            }
        };
        let policy = inner.auto_collect.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(policy) = &policy {
            let over = policy.max_bytes.is_some_and(|max| inner.bytes.load(Ordering::Relaxed) > max);
            if removed || over {
                tell("collect", collect::run(inner, policy, inner.now(), false).map(|_| ()));
            }
        }
        erofs::forget_unused(inner);
        tell("empty the trash", inner.dirs.empty_trash(&self.stop).map(|_| ()));
        if self.stop.load(Ordering::Relaxed) {
            return;
        }
        tell("expire", expire(inner));
        tell("sync layers", sync_layers(inner));
        tell("note the use of layers", note_use(inner));
        tell("make rows durable", inner.flush());
        inner.reserve().set_aside();
    }
}

/// Ends what nobody came back for.
fn expire(inner: &Inner) -> Result<()> {
    let over = lease::expire(&inner.dirs, inner.now(), &mut inner.state());
    over.iter().try_for_each(|path| inner.dirs.discard(path))?;
    Store::expire_partials(inner, inner.now()).map(|_| ())
}

/// Brings layers to the disk itself, and notes it. One sync serves all that were unpacked since the last.
fn sync_layers(inner: &Inner) -> Result<()> {
    let unsynced: Vec<LayerRow> = inner.state().layers.values().filter(|row| row.boot.is_some()).cloned().collect();
    if unsynced.is_empty() {
        return Ok(());
    }
    let root =
        open_dir(rustix::fs::CWD, &inner.dirs.root).map_err(|error| inner.dirs.error("open the store", error))?;
    syncfs(&root).map_err(|error| inner.dirs.error("sync the file system", error))?;
    inner.write("note synced layers", false, |tx| {
        for row in &unsynced {
            let key = row.chain.to_string();
            if let Some(mut row) = tx.get::<LayerRow>(LAYERS, &key)?.filter(|there| there.number == row.number) {
                row.boot = None;
                tx.put(LAYERS, &key, &row)?;
            }
        }
        Ok(())
    })?;
    let mut state = inner.state();
    for row in &unsynced {
        if let Some(there) = state.layers.get_mut(&row.chain).filter(|there| there.number == row.number) {
            there.boot = None;
        }
    }
    Ok(())
}

/// Writes down when layers were used.
fn note_use(inner: &Inner) -> Result<()> {
    let rows: Vec<LayerRow> = {
        let mut state = inner.state();
        let touched = std::mem::take(&mut state.touched);
        touched.iter().filter_map(|chain| state.layers.get(chain).cloned()).collect()
    };
    if rows.is_empty() {
        return Ok(());
    }
    inner.write("note the use of layers", false, |tx| {
        for row in &rows {
            let key = row.chain.to_string();
            if let Some(mut there) = tx.get::<LayerRow>(LAYERS, &key)?.filter(|there| there.number == row.number) {
                there.used = row.used;
                tx.put(LAYERS, &key, &there)?;
            }
        }
        Ok(())
    })
}
