//! Word that something was written to a directory of logs, for any number of followers.
//!
//! One inotify instance and one thread serve all of them, and one watch a directory. What comes close together is told
//! once. Where the kernel has no more watches, there is no word, and followers look again and again.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::watch;

/// After so long what came meanwhile is told.
const TOGETHER: Duration = Duration::from_millis(5);
/// Stack of the thread in bytes.
const STACK: usize = 64 << 10;

struct Hub {
    inotify: OwnedFd,
    places: Mutex<HashMap<i32, Weak<Place>>>,
}

#[derive(Debug)]
struct Place {
    descriptor: i32,
    moment: watch::Sender<()>,
}

/// Word of changes in a directory.
#[derive(Debug)]
pub(super) struct Changes {
    receiver: watch::Receiver<()>,
    _place: Arc<Place>,
}

impl Changes {
    /// Watches a directory; none if that cannot be.
    pub(super) fn of(dir: &Path) -> Option<Self> {
        let hub = hub()?;
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::ONLYDIR;
        let mut places = lock(&hub.places);
        let descriptor = inotify::add_watch(&hub.inotify, dir, flags).ok()?;
        let place = places.get(&descriptor).and_then(Weak::upgrade).unwrap_or_else(|| {
            let place = Arc::new(Place { descriptor, moment: watch::Sender::new(()) });
            places.insert(descriptor, Arc::downgrade(&place));
            place
        });
        Some(Self { receiver: place.moment.subscribe(), _place: place })
    }

    /// What changed until now is known.
    pub(super) fn seen(&mut self) {
        self.receiver.mark_unchanged();
    }

    /// Waits until something changed since it was last seen.
    pub(super) async fn changed(&mut self) {
        // The sender lives as long as this.
        let _ = self.receiver.changed().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(hub) = hub() else { return };
        let mut places = lock(&hub.places);
        // Somebody may have come to watch it meanwhile.
        if places.get(&self.descriptor).is_some_and(|place| place.strong_count() == 0) {
            places.remove(&self.descriptor);
            let _ = inotify::remove_watch(&hub.inotify, self.descriptor);
        }
    }
}

fn hub() -> Option<&'static Hub> {
    static HUB: OnceLock<Option<Hub>> = OnceLock::new();
    static THREAD: OnceLock<bool> = OnceLock::new();
    let hub = HUB.get_or_init(|| {
        let inotify = inotify::init(CreateFlags::CLOEXEC).ok()?;
        Some(Hub { inotify, places: Mutex::default() })
    });
    let hub = hub.as_ref()?;
    let runs = THREAD.get_or_init(|| {
        let thread = std::thread::Builder::new().name("log-changes".to_owned()).stack_size(STACK);
        thread.spawn(|| listen(hub)).is_ok()
    });
    runs.then_some(hub)
}

/// Tells of what the kernel says, for ever.
fn listen(hub: &'static Hub) {
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    loop {
        let mut changed = Vec::new();
        let mut reader = inotify::Reader::new(&hub.inotify, &mut buffer);
        let mut all = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    all |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                    if !changed.contains(&event.wd()) {
                        changed.push(event.wd());
                    }
                }
                Err(Errno::INTR) => {}
                // There is no reason for it that is known of: followers look by themselves.
                Err(_) => return,
            }
            if reader.is_buffer_empty() {
                break;
            }
        }
        let told: Vec<Arc<Place>> = {
            let places = lock(&hub.places);
            let wanted = |(descriptor, _): &(&i32, &Weak<Place>)| all || changed.contains(descriptor);
            places.iter().filter(wanted).filter_map(|(_, place)| place.upgrade()).collect()
        };
        for place in told {
            place.moment.send_replace(());
        }
        std::thread::sleep(TOGETHER);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
