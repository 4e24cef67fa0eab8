//! Starting a container: its root file system, its files, its network, then the monitor with its process, then the process
//! itself. What was made is taken back if anything fails.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_model::ContainerId;
use gantry_model::monitor::{Attach, Launch, LogFile, Restore};

use crate::bundle::{self, Found};
use crate::cdi;
use crate::container::{Endpoint, Record, Status};
use crate::engine::{Engine, blocking, make_dir};
use crate::error::{Context, Error, Result};
use crate::files::users;
use crate::monitor::{self, Connection};
use crate::network::Joined;
use crate::request::{MountKind, NetworkMode, Sharing, UserNamespace};
use crate::rootfs;
use crate::sandbox;
use crate::settings::{Namespace, Settings};
use crate::spec::{self, Place};
use crate::table::{Container, lock};
use crate::userns;

use super::mounts::{self, Mounting};

impl Engine {
    /// Starts a container.
    ///
    /// # Errors
    /// It runs already, or something that it needs is not to be had; nothing is left of the try then.
    pub async fn start(&self, asked: &str) -> Result<()> {
        self.start_with(asked, None).await
    }

    /// Starts a container, or lets it go on from a checkpoint.
    pub(crate) async fn start_with(&self, asked: &str, checkpoint: Option<Restore>) -> Result<()> {
        let container = self.find(asked)?;
        let life = container.hold().await?;
        match container.state().status {
            Status::Running => return Err(Error::NotModified(format!("container {asked} is running"))),
            Status::Paused => {
                return Err(Error::Conflict("cannot start a paused container, try unpause instead".to_owned()));
            }
            Status::Removing | Status::Dead => {
                return Err(Error::Conflict("container is marked for removal and cannot be started".to_owned()));
            }
            Status::Created | Status::Exited | Status::Restarting => {}
        }
        container.next_turn();
        container.change(|state| (state.restarts, state.stopped_by_hand) = (0, false));
        let started = self.launch(&container, checkpoint).await;
        drop(life);
        if started.is_err() && container.record().host.auto_remove {
            self.remove_at_the_end(&container).await;
        }
        started
    }

    /// Makes the process of a container and starts it, or restores it. Who calls this holds the container's life.
    pub(super) async fn launch(&self, container: &Arc<Container>, checkpoint: Option<Restore>) -> Result<()> {
        let started = match self.prepare(container).await {
            // The range of ids is this container's; once its process is there, that shows.
            Ok((launch, _range)) => self.begin(container, Launch { restore: checkpoint, ..launch }).await,
            Err(error) => Err(error),
        };
        let Err(error) = started else { return Ok(()) };
        // Who attached in advance learns that nothing comes.
        lock(&container.early).clear();
        self.take_back(container).await;
        let code = match &error {
            Error::Start { code, .. } => *code,
            _ => 128,
        };
        container.change(|state| {
            if state.status == Status::Restarting {
                state.status = Status::Exited;
            }
            (state.exit_code, state.error, state.pid) = (code, error.to_string(), 0);
        });
        self.keep_state(container);
        Err(error)
    }

    /// Makes everything that the process needs.
    async fn prepare(&self, container: &Arc<Container>) -> Result<(Launch, Option<userns::Range>)> {
        let record = container.record();
        self.check_log(container).await?;
        let joined = self.join(container).await?;
        self.tell_of_networks(container, &joined.endpoints, "connect");
        container.change(|state| {
            state.endpoints = joined.endpoints.iter().cloned().collect();
            state.ports.clone_from(&joined.ports);
        });
        let mut images = Vec::new();
        for mount in record.mounts.iter().filter(|mount| mount.kind == MountKind::Image) {
            let found = self.images().resolve(&mount.name, None).await?;
            // Held by the view of it from soon on; a collection in between takes longer to get to it.
            let unpacked = self.images().ensure_unpacked(&found.descriptor).await?;
            images.push((mount.name.clone(), unpacked.chain.clone()));
        }
        let namespaces = self.joined_namespaces(&record)?;
        let work = Work {
            run: self.run_dir(&record.id),
            store: self.images().store().clone(),
            engine: self.clone(),
            first: container.state().started == 0,
            images,
            log: self.log_file(container)?,
            namespaces,
            place: self.place(&record),
            joined,
            record,
        };
        let (mut launch, range) = blocking(move || work.bundle()).await?;
        launch.root = self.0.options.run.join("runtime").display().to_string();
        launch.systemd = self.0.options.systemd;
        launch.mounts_from = self.0.plain.as_ref().map(crate::plain::Plain::path);
        Ok((launch, range))
    }

    /// What the configuration says of the place.
    pub(crate) fn place(&self, record: &Record) -> Place {
        let parent = &record.host.cgroup_parent;
        let parent = if parent.is_empty() { &self.0.options.cgroup_parent } else { parent };
        let machine = &self.0.machine;
        Place {
            root: self.run_dir(&record.id).join("rootfs").display().to_string(),
            cgroup: format!("/{}/{}", parent.trim_matches('/'), record.id),
            files: self.files(record),
            init: self.0.options.runtime.display().to_string(),
            machine: machine.filters.clone(),
            apparmor: machine.apparmor.clone(),
            capabilities: machine.capabilities.clone(),
            devices: if record.host.privileged { spec::host::devices() } else { Vec::new() },
            masked: machine.telling.clone(),
            sysctls: if record.network.mode == NetworkMode::None { machine.sysctls.clone() } else { BTreeMap::new() },
            shm: self.shm_of(record),
            message_queues: record.host.ipc == Sharing::Host && Path::new("/dev/mqueue").exists(),
            oom_score_adj: spec::host::oom_score_adj(),
            ..Place::default()
        }
    }

    /// The shared memory of a container that others may join, or of the other whose IPC namespace this one joins.
    fn shm_of(&self, record: &Record) -> Option<String> {
        let whose = match &record.host.ipc {
            Sharing::Shareable => record.id.clone(),
            Sharing::Container(other) => self.find(other).ok()?.id.clone(),
            _ => return None,
        };
        Some(self.run_dir(&whose).join(mounts::SHM).display().to_string())
    }

    /// The namespaces that a container joins or has to itself.
    fn joined_namespaces(&self, record: &Record) -> Result<Found> {
        let of = |sharing: &Sharing, kind: &str| match sharing {
            Sharing::Host => Ok(Namespace::Host),
            Sharing::Private | Sharing::Shareable | Sharing::None => Ok(Namespace::Own),
            Sharing::Container(other) => {
                let other = self.find(other)?;
                let state = other.state();
                if !state.status.is_running() {
                    let id = &other.id;
                    return Err(Error::Conflict(format!(
                        "cannot join {kind} namespace of a non running container: {id}"
                    )));
                }
                Ok(Namespace::Path(format!("/proc/{}/ns/{kind}", state.pid)))
            }
        };
        let host = &record.host;
        if let Sharing::Container(other) = &host.ipc {
            self.check_ipc(other)?;
        }
        let uts = match (&host.uts, &record.network.mode) {
            // A host name of its own on the host's network would be seen by nobody else.
            (Sharing::Private, NetworkMode::Container(other)) => of(&Sharing::Container(other.clone()), "uts")?,
            (sharing, _) => of(sharing, "uts")?,
        };
        Ok(Found { ipc: of(&host.ipc, "ipc")?, pid: of(&host.pid, "pid")?, uts, ..Found::default() })
    }

    /// Refuses to join the IPC namespace of a container that keeps it to itself, whose shared memory is nowhere to be mounted.
    fn check_ipc(&self, other: &str) -> Result<()> {
        let other = self.find(other)?;
        if matches!(other.record().host.ipc, Sharing::Shareable) {
            return Ok(());
        }
        let id = &other.id;
        Err(Error::Invalid(format!(
            "failed to join IPC namespace: container {id}: non-shareable IPC (hint: use IpcMode:shareable for the donor \
             container)"
        )))
    }

    /// Files that are mounted over those of the image: those of the container whose network it is.
    fn files(&self, record: &Record) -> Vec<(String, String)> {
        let whose = match &record.network.mode {
            NetworkMode::Container(other) => {
                self.find(other).map_or_else(|_| record.id.clone(), |other| other.id.clone())
            }
            _ => record.id.clone(),
        };
        let dir = self.root_dir(&whose);
        let own = ["hosts", "hostname", "resolv.conf"];
        let mut files = Vec::from(own.map(|name| (dir.join(name).display().to_string(), format!("/etc/{name}"))));
        if record.infra.is_some() {
            files.push((self.0.options.runtime.display().to_string(), sandbox::PROGRAM.to_owned()));
        }
        files
    }

    /// Starts the monitor, gives it those who are attached, and lets the process go.
    async fn begin(&self, container: &Arc<Container>, mut launch: Launch) -> Result<()> {
        let dir = self.run_dir(&container.id);
        let mut early = std::mem::take(&mut *lock(&container.early)).into_iter();
        let first = early.next();
        launch.attach = first.as_ref().map(|(attach, _)| *attach);
        let socket = PathBuf::from(&launch.socket);
        let client = first.map(|(_, socket)| socket);
        let pid = monitor::spawn(&self.0.options.runtime, &dir.join("launch.json"), &launch, client).await?;
        let what = || format!("connect to the monitor at {}", socket.display());
        let connection = Connection::open(&socket).context(what)?;
        for (Attach { stdin, stdout, stderr }, client) in early {
            let request = gantry_model::monitor::Request::Attach { stdin, stdout, stderr };
            connection.ask(request, Some(client)).await.context(what)?;
        }
        let id = container_id(&container.id)?;
        if launch.restore.is_none() {
            self.runtime(move |runtime| runtime.start(&id, None).map_err(|error| monitor::failed(&error.to_string())))
                .await?;
        }
        let started = self.now();
        container.change(|state| {
            (state.status, state.pid, state.started) = (Status::Running, pid, started);
            (state.exit_code, state.error, state.oom_killed) = (0, String::new(), false);
            state.finished = if state.finished == 0 { 0 } else { state.finished };
        });
        self.keep_state(container);
        self.tell_of(container, "start", &[]);
        self.watch_over(container, connection);
        self.look_after_health(container);
        self.ship_log(container);
        Ok(())
    }

    /// Takes back what a start made.
    pub(super) async fn take_back(&self, container: &Arc<Container>) {
        self.end_processes(container).await;
        self.clear_mounts(container).await;
        self.clear_run(container).await;
    }

    /// Ends whatever the runtime knows of a container.
    pub(super) async fn end_processes(&self, container: &Arc<Container>) {
        let Ok(id) = container_id(&container.id) else { return };
        let gone = self.runtime(move |runtime| match runtime.delete(&id, true) {
            Err(gantry_runtime::Error::NotFound(_)) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        });
        if let Err(error) = gone.await {
            tracing::warn!("end container {}: {error}", container.id);
        }
    }

    /// Tells of the networks that a container came into or left.
    fn tell_of_networks(&self, container: &Container, endpoints: &[(String, Endpoint)], action: &str) {
        for (_, endpoint) in endpoints {
            if let Ok(network) = self.0.networks.find(&endpoint.network_id) {
                self.tell_of_network(&network, action, &container.id);
            }
        }
    }

    /// Takes the network and the mounts of a container away that does not run.
    pub(super) async fn clear_mounts(&self, container: &Arc<Container>) {
        self.leave(container).await;
        let left: Vec<_> = container.state().endpoints.clone().into_iter().collect();
        self.tell_of_networks(container, &left, "disconnect");
        container.change(|state| {
            state.endpoints.clear();
            state.ports.clear();
        });
        let (run, store, id) = (self.run_dir(&container.id), self.images().store().clone(), container.id.clone());
        let cleared = blocking(move || {
            rootfs::unmount_all(&run.join("rootfs"))?;
            mounts::clear(&store, &id, &run)
        });
        if let Err(error) = cleared.await {
            tracing::warn!("clear up after container {}: {error}", container.id);
        }
        self.let_go_of_volumes(container).await;
    }

    /// Unmounts volumes with options that no other container uses that runs.
    async fn let_go_of_volumes(&self, container: &Arc<Container>) {
        let record = container.record();
        for mount in record.mounts.iter().filter(|mount| mount.kind == MountKind::Volume) {
            let Ok(volume) = self.volume(&mount.name) else { continue };
            if volume.options.is_empty() {
                continue;
            }
            let used = self.users_of_volume(&mount.name).iter().any(|other| {
                *other != container.id && self.find(other).is_ok_and(|other| other.state().status.is_running())
            });
            let (engine, id) = (self.clone(), container.id.clone());
            let left = blocking(move || engine.0.volumes.let_go(&volume, &id, used));
            if let Err(error) = left.await {
                tracing::warn!("{error}");
            }
        }
    }

    /// Removes what a container has only while it runs; its mounts are gone.
    pub(super) async fn clear_run(&self, container: &Arc<Container>) {
        let dir = self.run_dir(&container.id);
        let cleared = blocking(move || remove_run_dir(&dir));
        if let Err(error) = cleared.await {
            tracing::warn!("clear up after container {}: {error}", container.id);
        }
    }
}

/// Removes a run directory. What is still mounted in it must not be gone into, so the mount point goes first.
pub(super) fn remove_run_dir(dir: &Path) -> Result<()> {
    let done = |removed: std::io::Result<()>| match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    done(std::fs::remove_dir(dir.join("rootfs")))
        .and_then(|()| done(std::fs::remove_dir(dir.join(mounts::PLACE))))
        .and_then(|()| done(std::fs::remove_dir(dir.join(mounts::SHM))))
        .and_then(|()| done(std::fs::remove_dir_all(dir)))
        .context(|| format!("remove {}", dir.display()))
}

/// The identifier that the runtime knows a container by.
pub(crate) fn container_id(id: &str) -> Result<ContainerId> {
    ContainerId::new(id).map_err(|error| Error::Invalid(error.to_string()))
}

/// Who a process runs as, by the files of its container.
pub(crate) fn found_user(rootfs: &Path, user: &str, groups: &[String]) -> Result<Found> {
    let root = rootfs::open(rootfs)?;
    let found = users::resolve(root.as_fd(), user, groups)?;
    Ok(Found { user: found.user, home: found.home, ..Found::default() })
}

/// What the files of a start are made from.
struct Work {
    run: PathBuf,
    store: gantry_store::Store,
    engine: Engine,
    first: bool,
    images: Vec<(String, Option<gantry_model::digest::Digest>)>,
    log: Option<LogFile>,
    namespaces: Found,
    place: Place,
    joined: Joined,
    record: Arc<Record>,
}

impl Work {
    /// Mounts the root file system and writes the bundle.
    fn bundle(self) -> Result<(Launch, Option<userns::Range>)> {
        make_dir(&self.run)?;
        self.joined.write(&self.run)?;
        let rootfs = self.run.join("rootfs");
        // Of a start that a crash cut off.
        rootfs::unmount_all(&rootfs)?;
        mounts::clear(&self.store, &self.record.id, &self.run)?;
        let range = match self.record.host.user_namespace {
            UserNamespace::Auto => Some(self.engine.0.ranges.take()?),
            UserNamespace::Host => None,
        };
        let mapping = range.as_ref().map(userns::Range::mapping);
        let ids = mapping.as_ref().map(userns::make).transpose()?;
        let root = rootfs::mount(&self.store, &self.record.id, &rootfs, ids.as_ref())?;
        if self.record.host.ipc == Sharing::Shareable {
            mounts::shared_memory(&self.run, self.record.host.shm_size)?;
        }
        let (config, host) = (&self.record.config, &self.record.host);
        let found = found_user(&rootfs, &config.user, &host.groups)?;
        let found = Found {
            network: self.joined.namespace.clone(),
            user: found.user,
            home: found.home,
            unified: self.engine.0.machine.unified,
            ..self.namespaces.clone()
        };
        let mut settings = bundle::settings(&self.record, &found)?;
        settings.user_namespace = mapping;
        settings.mounts = Mounting {
            record: &self.record,
            root: root.as_fd(),
            run: &self.run,
            store: &self.store,
            volumes: &self.engine.0.volumes,
            first: self.first,
            images: &self.images,
        }
        .all()?;
        self.devices(&mut settings)?;
        if spec::needs_propagation(&settings) {
            let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").context(|| "read mountinfo".to_owned())?;
            spec::check_propagation(&settings, &mountinfo)?;
        }
        let spec = spec::build(&settings, &self.place)?;
        let config = self.run.join("config.json");
        let text = serde_json::to_vec(&spec).unwrap_or_default();
        std::fs::write(&config, text).context(|| format!("write {}", config.display()))?;
        Ok((self.launch(), range))
    }

    /// The devices of the host that were asked for.
    fn devices(&self, settings: &mut Settings) -> Result<()> {
        let host = &self.record.host;
        for mapping in &host.devices {
            settings.devices.extend(spec::host::mapped(mapping)?);
        }
        if host.device_requests.is_empty() {
            return Ok(());
        }
        let registry = cdi::Registry::read(&cdi::DIRECTORIES.map(PathBuf::from));
        for request in &host.device_requests {
            let invalid = |error: cdi::Error| {
                let more = registry.problems().join("; ");
                Error::Invalid(if more.is_empty() { error.to_string() } else { format!("{error} ({more})") })
            };
            let names = registry.resolve(request).map_err(invalid)?;
            registry.give(&names, settings, &cdi::host_device).map_err(invalid)?;
        }
        Ok(())
    }

    fn launch(&self) -> Launch {
        let path = |name: &str| self.run.join(name).display().to_string();
        let config = &self.record.config;
        Launch {
            root: String::new(),
            id: self.record.id.clone(),
            bundle: self.run.display().to_string(),
            exec: None,
            terminal: config.terminal,
            stdin: config.stdin_open,
            stdin_once: config.stdin_once,
            attach: None,
            systemd: false,
            mounts_from: None,
            socket: path("monitor"),
            exit: path("exit"),
            log: self.log.clone(),
            restore: None,
        }
    }
}
