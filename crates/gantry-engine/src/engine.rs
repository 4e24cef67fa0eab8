//! The engine itself: what it holds, how it is opened, and how things are found in it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use gantry_images::Images;
use gantry_model::mountinfo;
use gantry_runtime::{Runtime, Warn};
use rustix::mount::{MountFlags, MountPropagationFlags};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::container::{Record, State, View};
use crate::db::{Db, Row, Table};
use crate::error::{Context, Error, Result};
use crate::events::{Event, Events, Listener, Subject};
use crate::exec::Execs;
use crate::machine::Machine;
use crate::network::{Joined, NetworkRecord, Networks};
use crate::plain::Plain;
use crate::request::{LogConfig, NetworkMode};
use crate::settings::Namespace;
use crate::table::{Container, Containers, Counts};
use crate::userns::Ranges;
use crate::volumes::Volumes;

/// How long what is being done may take to be cut off.
const CLOSE: std::time::Duration = std::time::Duration::from_secs(10);

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is kept: records, logs, volumes.
    pub root: PathBuf,
    /// What is of no use after a start of the machine: sockets, mount points, exit records.
    pub run: PathBuf,
    /// The program `gantry-oci`.
    pub runtime: PathBuf,
    /// The cgroup that containers get theirs in, from the root of the hierarchies.
    pub cgroup_parent: String,
    /// Whether systemd makes the cgroups.
    pub systemd: bool,
    /// What names of network interfaces begin with; others than ours must not.
    pub prefix: String,
    /// Where output goes if a container does not say.
    pub log: LogConfig,
    /// Nanoseconds since 1970.
    pub clock: fn() -> i64,
}

/// How often containers were asked for their health.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) all: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// The engine. Clones share everything.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

/// What the engine holds.
pub(crate) struct Inner {
    pub(crate) options: Options,
    id: String,
    pub(crate) images: Images,
    pub(crate) db: Db,
    pub(crate) events: Events,
    pub(crate) networks: Networks,
    pub(crate) volumes: Volumes,
    /// Held by who removes a volume, and by who comes to use one.
    pub(crate) using_volumes: tokio::sync::Mutex<()>,
    /// Held by who makes or removes a network.
    pub(crate) making: tokio::sync::Mutex<()>,
    /// Where output goes if a container does not say; it can change.
    log: RwLock<LogConfig>,
    /// How often containers were asked for their health.
    pub(crate) checks: Checks,
    /// Whether what there was is found again, so that more may be started.
    ready: watch::Sender<bool>,
    /// Whether the engine ends.
    closing: watch::Sender<bool>,
    /// Further processes.
    pub(crate) execs: Execs,
    /// Ranges of ids for user namespaces.
    pub(crate) ranges: Ranges,
    /// The mount namespace that those of containers are copied from; none if it cannot be had.
    pub(crate) plain: Option<Plain>,
    /// What is so of this machine.
    pub(crate) machine: Machine,
    containers: RwLock<Containers>,
}

impl Engine {
    /// Opens the engine: reads what is on the disk, and finds again what runs.
    ///
    /// # Errors
    /// The disk, the database or the kernel refuses something that nothing goes without.
    pub async fn open(options: Options, images: Images) -> Result<Self> {
        let run = ["containers", "netns", "runtime"].map(|name| options.run.join(name));
        for dir in run.into_iter().chain([options.root.join("containers")]) {
            make_dir(&dir)?;
        }
        keep_mounts_to_ourselves(&options.run)?;
        let plain = Plain::new(&options.run)
            .inspect_err(|error| tracing::warn!("containers copy all mounts of this process: {error}"))
            .ok();
        let (db, (records, mut states, networks, known)) = Db::open(&options.root.join("engine.redb"), |rows| {
            let states = rows.all::<State>(Table::States)?.into_iter().collect::<std::collections::BTreeMap<_, _>>();
            let networks = rows.all::<NetworkRecord>(Table::Networks)?;
            let known = rows.all::<String>(Table::Meta)?.into_iter().find(|(key, _)| key == "id");
            Ok((rows.all::<Record>(Table::Containers)?, states, networks, known))
        })?;
        let id = if let Some((_, id)) = known {
            id
        } else {
            let id = crate::names::id()?;
            db.write(vec![Row::put(Table::Meta, "id", &id)]).await?;
            id
        };
        let mut containers = Containers::default();
        for (id, record) in records {
            containers.take_name(&record.name, &id)?;
            let state = states.remove(&id).unwrap_or_default();
            containers.insert(Arc::new(Container::new(record, state)));
        }
        let volumes = Volumes::open(&options.root.join("volumes"))?;
        volumes.clear_up(|id| containers.find(id).is_ok());
        // States without a container: it was removed between two commits.
        db.write_soon(states.keys().map(|id| Row::remove(Table::States, id)).collect());
        let (events, containers) = (Events::default(), RwLock::new(containers));
        let machine = Machine::look()?;
        let networks = networks.into_iter().map(|(_, network)| network).collect();
        let networks = Networks::open(&options.prefix, networks)?;
        let (execs, closing) = (Execs::default(), watch::Sender::default());
        let log = RwLock::new(options.log.clone());
        let inner = Inner {
            options,
            log,
            checks: Checks::default(),
            id,
            images,
            db,
            events,
            networks,
            volumes,
            using_volumes: tokio::sync::Mutex::default(),
            making: tokio::sync::Mutex::default(),
            ready: watch::Sender::default(),
            closing,
            execs,
            ranges: Ranges::default(),
            plain,
            machine,
            containers,
        };
        let engine = Self(Arc::new(inner));
        engine.adopt().await;
        engine.clear_namespaces().await;
        engine.clear_snapshots().await;
        engine.settle_networks().await?;
        engine.look_after_networks();
        engine.0.ready.send_replace(true);
        engine.compress_logs();
        Ok(engine)
    }

    /// Ends the engine; containers run on. What is being done is cut off, as by a crash, and found again.
    pub async fn close(self) {
        self.0.closing.send_replace(true);
        let until = tokio::time::Instant::now() + CLOSE;
        while Arc::strong_count(&self.0) > 1 && tokio::time::Instant::now() < until {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        if !self.read().all().iter().any(|container| container.state().status.is_running()) {
            self.clear_up().await;
        }
    }

    /// Takes away what is made anew at the next start anyway, when nothing runs that needs it.
    async fn clear_up(&self) {
        let (net, options) = (self.0.networks.kernel(), self.0.options.clone());
        let cleared = blocking(move || {
            net.clear()?;
            crate::rootfs::unmount_all(&options.run)?;
            // A slice is systemd's to remove.
            if options.systemd { Ok(()) } else { remove_cgroup_parent(&options.cgroup_parent) }
        });
        if let Err(error) = cleared.await {
            tracing::warn!("clear up: {error}");
        }
    }

    /// Waits until what there was is found again.
    pub(crate) async fn until_ready(&self) {
        // The sender is there as long as the engine is.
        let _ = self.0.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Whether the engine ends.
    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.0.closing.subscribe()
    }

    /// Does something beside, until it is done or the engine ends.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut closing = self.0.closing.subscribe();
        let work = HELD.scope(self.clone(), work);
        let task = async move {
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => {}
                () = work => {}
            }
        };
        tokio::spawn(task).abort_handle()
    }

    /// The images.
    pub fn images(&self) -> &Images {
        &self.0.images
    }

    /// How it is set up.
    pub fn options(&self) -> &Options {
        &self.0.options
    }

    /// The engine's own id, which stays.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The log driver of containers that do not say.
    pub fn default_log_driver(&self) -> String {
        let driver = self.default_log().driver;
        if driver.is_empty() { crate::logs::DEFAULT_DRIVER.to_owned() } else { driver }
    }

    /// Where output goes if a container does not say.
    pub(crate) fn default_log(&self) -> LogConfig {
        self.0.log.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes where the output of containers goes that are made from now on and do not say.
    ///
    /// # Errors
    /// There is no such driver, or it has no such option; then nothing changes.
    pub fn set_default_log(&self, log: LogConfig) -> Result<()> {
        crate::logs::plan(&log, &LogConfig::default())?;
        *self.0.log.write().unwrap_or_else(PoisonError::into_inner) = log;
        Ok(())
    }

    /// How often containers were asked for their health since the engine was opened, and how often they were not well.
    pub fn health_checks(&self) -> (u64, u64) {
        let Checks { all, failed } = &self.0.checks;
        (all.load(Ordering::Relaxed), failed.load(Ordering::Relaxed))
    }

    /// How many listen to events.
    pub fn listeners(&self) -> usize {
        self.0.events.listeners()
    }

    /// A container as it is now, by id, name, or the beginning of an id.
    pub fn container(&self, asked: &str) -> Result<View> {
        Ok(self.view(&*self.find(asked)?))
    }

    /// All containers as they are now, the newest first.
    pub fn containers(&self) -> Vec<View> {
        let all = self.read().all();
        let all = all.iter().filter(|container| container.record().infra.is_none());
        let mut all: Vec<View> = all.map(|container| self.view(container)).collect();
        all.sort_by(|a, b| b.record.created.cmp(&a.record.created).then_with(|| a.record.id.cmp(&b.record.id)));
        all
    }

    /// How many containers are in which state.
    pub fn counts(&self) -> Counts {
        Counts::of(self.read().all().iter().filter(|container| container.record().infra.is_none()))
    }

    /// The events that are remembered, the oldest first, and those from now on.
    pub fn events(&self) -> (Vec<Arc<Event>>, Listener) {
        self.0.events.subscribe()
    }

    /// Tells of something that a front door did by itself, such as a pull.
    pub fn tell(
        &self,
        subject: Subject,
        action: &str,
        id: &str,
        attributes: impl IntoIterator<Item = (String, String)>,
    ) {
        let attributes = attributes.into_iter().collect();
        let (action, id) = (action.to_owned(), id.to_owned());
        self.0.events.tell(Event { time: self.now(), subject, action, id, attributes });
    }

    /// Nanoseconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        (self.0.options.clock)()
    }

    pub(crate) fn find(&self, asked: &str) -> Result<Arc<Container>> {
        self.read().find(asked)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Containers> {
        self.0.containers.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Containers> {
        self.0.containers.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn view(&self, container: &Container) -> View {
        let (record, state) = (container.record(), container.state());
        View {
            log_path: self.log_file(container).ok().flatten().map(|file| file.path).unwrap_or_default(),
            execs: self.execs_of(&container.id),
            network_namespace: match record.network.mode {
                NetworkMode::Bridge | NetworkMode::Named(_) if state.started != 0 => {
                    self.netns_path(&container.id).display().to_string()
                }
                _ => String::new(),
            },
            record,
            state,
        }
    }

    /// Tells of something that happened to a container, with what is always said of one.
    pub(crate) fn tell_of(&self, container: &Container, action: &str, more: &[(&str, String)]) {
        let record = container.record();
        let mut attributes = record.config.labels.clone();
        let image = record.image.as_ref().map(|image| image.name.clone()).unwrap_or_default();
        attributes.insert("image".to_owned(), image);
        attributes.insert("name".to_owned(), record.name.clone());
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.tell(Subject::Container, action, &record.id, attributes);
    }

    /// Writes a container's state, soon.
    pub(crate) fn keep_state(&self, container: &Container) {
        self.0.db.write_soon(vec![Row::put(Table::States, &container.id, &*container.state())]);
    }

    /// What of a container is of no use after a start of the machine.
    pub(crate) fn run_dir(&self, id: &str) -> PathBuf {
        self.0.options.run.join("containers").join(id)
    }

    /// What of a container is kept.
    pub(crate) fn root_dir(&self, id: &str) -> PathBuf {
        self.0.options.root.join("containers").join(id)
    }

    /// Writes down what a container has of networks, for who finds it again.
    pub(crate) fn keep_joined(&self, container: &Container) -> Result<()> {
        let state = container.state();
        let joined = Joined {
            namespace: Namespace::Path(self.netns_path(&container.id).display().to_string()),
            endpoints: state.endpoints.iter().map(|(name, endpoint)| (name.clone(), endpoint.clone())).collect(),
            ports: state.ports.clone(),
        };
        joined.write(&self.run_dir(&container.id))
    }

    /// Does something with the runtime where it may wait.
    pub(crate) async fn runtime<T: Send + 'static>(
        &self,
        body: impl FnOnce(&Runtime) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = self.0.options.run.join("runtime").display().to_string();
        let systemd = self.0.options.systemd;
        blocking(move || {
            body(&Runtime {
                store: gantry_runtime::record::Store::new(root),
                systemd,
                no_cgroups: false,
                rootless: None,
                warn: Warn::to(|what| tracing::warn!("{what}")),
            })
        })
        .await
    }
}

tokio::task_local! {
    /// The engine that a task belongs to.
    static HELD: Engine;
}

/// Runs something where it may wait. It goes on when who asked for it is cut off, so it keeps the engine that it belongs to:
/// one that ends waits for it, or it would act upon what the next one makes.
pub(crate) async fn blocking<T: Send + 'static>(body: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let held = HELD.try_with(Engine::clone).ok();
    let job = move || {
        let done = body();
        drop(held);
        done
    };
    tokio::task::spawn_blocking(job).await.map_err(|_| Error::Closed)?
}

/// Makes a directory that only root looks into.
pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(dir);
    made.context(|| format!("make {}", dir.display()))
}

/// Removes the cgroup that containers get theirs in, in every hierarchy where nobody is in it.
fn remove_cgroup_parent(parent: &str) -> Result<()> {
    use std::io::ErrorKind::{DirectoryNotEmpty, NotFound, ResourceBusy};
    let parent = Path::new(parent.trim_matches('/'));
    if parent.as_os_str().is_empty() || parent.components().any(|part| part == std::path::Component::ParentDir) {
        return Ok(());
    }
    let layout = gantry_cgroup::Layout::detect().map_err(gantry_runtime::Error::from)?;
    for mount in layout.v1.iter().chain(&layout.unified) {
        let dir = mount.point.join(parent);
        match std::fs::remove_dir(&dir) {
            Err(error) if ![DirectoryNotEmpty, NotFound, ResourceBusy].contains(&error.kind()) => {
                return Err(error).context(|| format!("remove cgroup {}", dir.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Mounts below are nobody else's: others who copied our mounts would keep them alive, and handing them on costs time.
fn keep_mounts_to_ourselves(dir: &Path) -> Result<()> {
    let what = || format!("make {} a mount of its own", dir.display());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context(|| "read mountinfo".to_owned())?;
    if !mountinfo::parse(&mounts).any(|mount| Path::new(&mount.point) == dir) {
        rustix::mount::mount(dir, dir, "", MountFlags::BIND, None).context(what)?;
    }
    rustix::mount::mount_change(dir, MountPropagationFlags::PRIVATE).context(what)
}
