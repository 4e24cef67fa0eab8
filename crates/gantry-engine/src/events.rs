//! What happens, told to whoever listens: a typed stream, and a bounded memory of the last events for those who ask later.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast;

/// Events that are remembered.
const KEPT: usize = 1024;
/// Events that a slow listener may be behind.
const BACKLOG: usize = 4096;

/// What something happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
    /// The engine.
    Daemon,
}

impl Subject {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Daemon => "daemon",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in nanoseconds since 1970.
    pub time: i64,
    /// To what.
    pub subject: Subject,
    /// What, such as `start` or `exec_create: ls`.
    pub action: String,
    /// The id, or the name, of what it happened to.
    pub id: String,
    /// What else is known of it.
    pub attributes: BTreeMap<String, String>,
}

/// Where events come together.
#[derive(Debug)]
pub struct Events {
    sender: broadcast::Sender<Arc<Event>>,
    kept: Mutex<VecDeque<Arc<Event>>>,
}

/// Events from now on.
pub type Listener = broadcast::Receiver<Arc<Event>>;

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::channel(BACKLOG).0, kept: Mutex::default() }
    }
}

impl Events {
    /// Tells of something.
    pub fn tell(&self, event: Event) {
        let event = Arc::new(event);
        // Under the lock, so that who subscribes gets each event once: from the memory or from the stream.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&event));
        // Nobody may listen.
        let _ = self.sender.send(event);
    }

    /// How many listen.
    pub fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }

    /// The events that are remembered, the oldest first, and those from now on.
    pub fn subscribe(&self) -> (Vec<Arc<Event>>, Listener) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.sender.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: usize) -> Event {
        let (action, id) = ("start".to_owned(), id.to_string());
        Event { time: 1, subject: Subject::Container, action, id, attributes: BTreeMap::new() }
    }

    #[test]
    fn the_last_are_remembered_and_none_comes_twice() {
        let events = Events::default();
        (0..KEPT + 2).for_each(|id| events.tell(event(id)));
        let (kept, mut listener) = events.subscribe();
        assert_eq!((kept.len(), kept[0].id.as_str()), (KEPT, "2"));
        events.tell(event(7000));
        assert_eq!(listener.try_recv().unwrap().id, "7000");
        assert!(listener.try_recv().is_err());
    }
}
