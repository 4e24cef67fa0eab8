//! Saving a container.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use gantry_cgroup::Layout;
use gantry_model::ContainerId;
use gantry_model::names::namespace::NamespaceKind;
use gantry_model::oci::spec::Spec;
use gantry_model::oci::state::Status;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};

use super::{Report, Runtime};
use crate::criu::option::{Feature, Kind, Response};
use crate::criu::plan::{self, DUMP_LOG, DumpFacts, External, STREAMS};
use crate::criu::service::{self, Event, Places, Service};
use crate::criu::{CheckpointRequest, Criu, facts};
use crate::error::{Context, Error, Result};
use crate::host;
use crate::lower::{self, CgroupInput, ConsoleTo, Flags, Input};
use crate::record::Record;
use crate::step::Action;

/// Makes the directory of the work, and with `images` that of the images too.
pub(super) fn make_directories(criu: &Criu, images: bool) -> Result<()> {
    let paths = criu.work_path.iter().chain(images.then_some(&criu.image_path));
    for path in paths {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.context(|| format!("make directory {path}"))?;
    }
    if Path::new(&criu.image_path).is_dir() {
        return Ok(());
    }
    Err(Error::Unsupported(format!("there are no images: {} is no directory", criu.image_path)))
}

/// The directories for CRIU.
pub(super) fn places(criu: &Criu) -> Places<'_> {
    Places { images: &criu.image_path, work: criu.work_path.as_deref() }
}

/// Fails for a user to whom CRIU can be of no use.
pub(super) fn need_root(action: &str) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Error::Unsupported(format!("{action} a container needs root: criu reads the memory of its processes")))
}

impl Runtime {
    /// Saves a container. Without `leave_running` and `pre_dump` it is stopped then; if saving fails it goes on.
    ///
    /// # Errors
    /// The container is neither running nor paused, CRIU is missing or lacks a feature, or it failed: then its log is
    /// named.
    pub fn checkpoint(&self, request: &CheckpointRequest<'_>) -> Result<()> {
        need_root("checkpointing")?;
        let directory = self.store.open(request.id)?;
        let report = self.report(request.id)?;
        if !matches!(report.status, Status::Running | Status::Paused) {
            return Err(Error::Status { action: "checkpoint", id: request.id.to_string(), status: report.status });
        }
        if request.pre_dump && request.commit_to.is_some() {
            return Err(Error::Unsupported(
                "--commit-to is of no use with --pre-dump, which saves no whole".to_owned(),
            ));
        }
        make_directories(&request.criu, true)?;
        check_parent(request)?;
        if request.pre_dump || request.parent_path.is_some() {
            let name = if request.pre_dump { "--pre-dump" } else { "--parent-path" };
            service::need(Feature::MemTrack, name)?;
        }
        if request.criu.lazy_pages {
            service::need(Feature::LazyPages, "--lazy-pages")?;
        }
        let facts = dump_facts(request.id, &report)?;
        if !request.pre_dump {
            write_streams(&request.criu, &facts)?;
        }
        let ends = !request.leave_running && !request.pre_dump;
        dump(request, &facts, &|| {
            if let Some(path) = &request.commit_to {
                commit(&request.criu.image_path, path)?;
            }
            // Now, not when the processes have ended: whoever looks after them may have removed everything by then.
            if ends { directory.mark_checkpointed() } else { Ok(()) }
        })
        .inspect_err(|_| directory.unmark_checkpointed())?;
        if ends {
            end(&report.record);
        }
        Ok(())
    }
}

/// Brings the images to the disk, and gives them their name.
fn commit(images: &str, path: &str) -> Result<()> {
    let entries = std::fs::read_dir(images).context(|| format!("read {images}"))?;
    for entry in entries {
        let file = entry.context(|| format!("read {images}"))?.path();
        let synced = std::fs::File::open(&file).and_then(|file| file.sync_all());
        synced.context(|| format!("bring {} to the disk", file.display()))?;
    }
    let parent = Path::new(path).parent().unwrap_or(Path::new("/"));
    let directory = std::fs::File::open(parent).context(|| format!("open {}", parent.display()))?;
    let synced = std::fs::File::open(images).and_then(|images| images.sync_all());
    synced.context(|| format!("bring {images} to the disk"))?;
    rustix::fs::renameat_with(CWD, images, CWD, path, RenameFlags::NOREPLACE)
        .context(|| format!("rename {images} to {path}"))?;
    directory.sync_all().context(|| format!("bring {} to the disk", parent.display()))
}

/// CRIU cannot say what is wrong with the directory of older images.
fn check_parent(request: &CheckpointRequest<'_>) -> Result<()> {
    let Some(parent) = &request.parent_path else { return Ok(()) };
    let path = Path::new(&request.criu.image_path).join(parent);
    if path.is_dir() {
        return Ok(());
    }
    Err(Error::Unsupported(format!("--parent-path: {} is no directory", path.display())))
}

/// Keeps what the standard streams were beside the images.
fn write_streams(criu: &Criu, facts: &DumpFacts) -> Result<()> {
    let path = format!("{}/{STREAMS}", criu.image_path);
    let names = plan::stream_names(&facts.streams);
    let text = serde_json::to_vec(&names).map_err(|cause| Error::Parse { path: path.clone(), cause })?;
    std::fs::write(&path, text).context(|| format!("write {path}"))
}

/// The processes have been ended by CRIU; whoever looks after the first one has still to see that.
fn end(record: &Record) {
    if let Some(process) = record.process() {
        super::manage::await_death(&process);
    }
}

fn dump_facts(id: &ContainerId, report: &Report) -> Result<DumpFacts> {
    let Report { record, spec, .. } = report;
    let pid = record.pid;
    let mounts = facts::mounts_of(&pid.to_string())?;
    let root = format!("/proc/{pid}/root");
    let mut joined = Vec::new();
    for (kind, _) in facts::joined(spec) {
        joined.push((kind, facts::inode(&format!("/proc/{pid}/ns/{}", kind.proc_name()))?));
    }
    Ok(DumpFacts {
        pid,
        rootfs: record.rootfs.clone(),
        externals: facts::resolve_all(&root, bound(id, record, spec)?)?,
        streams: facts::streams_of(pid, &mounts),
        mounts: mounts.into_iter().map(|(_, point)| point).collect(),
        joined,
        own_network: facts::makes(spec, NamespaceKind::Network),
        freezer: facts::freezer(&record.cgroup),
        cgroup: !record.cgroup.is_none(),
        config_file: facts::config_file(spec),
        no_iptables: facts::no_iptables(),
    })
}

/// What was bound from the host when the container was made: the same steps come out again.
fn bound(id: &ContainerId, record: &Record, spec: &Spec) -> Result<Vec<External>> {
    let mut spec = spec.clone();
    let mut host = host::detect(&spec);
    lower::complete(&mut spec, &host);
    if spec.mounts.iter().any(|mount| mount.kind == "cgroup" || mount.kind == "cgroup2") {
        host.cgroup_mounts = host::cgroup_mounts(&Layout::detect()?, &record.cgroup);
    }
    let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    let flags = Flags { console: if terminal { ConsoleTo::Runtime } else { ConsoleTo::Nobody }, ..Flags::default() };
    let steps = lower::lower(&Input {
        id,
        bundle: &record.bundle,
        spec: &spec,
        host: &host,
        flags: &flags,
        cgroup: &CgroupInput::default(),
        start_now: true,
    })?;
    // CRIU binds what lies outside again as it is there, without the mapping of its ids.
    if steps.iter().any(|step| matches!(step.action, Action::IdmapTree { .. })) {
        return Err(Error::Unsupported("a container with idmapped mounts cannot be checkpointed".to_owned()));
    }
    Ok(plan::externals(&steps))
}

/// Saves. `saved` is called when all is written and the processes still wait: if it fails they go on.
fn dump(request: &CheckpointRequest<'_>, facts: &DumpFacts, saved: &dyn Fn() -> Result<()>) -> Result<()> {
    let options = plan::dump(request, facts);
    let kind = if request.pre_dump { Kind::PreDump } else { Kind::Dump };
    let mut ready = request.status_fd.map(status_descriptor).transpose()?;
    let mut reached = |event: Event<'_>| match event.script {
        "status-ready" => ready.take().map_or(Ok(()), |descriptor| service::signal_ready(descriptor.as_fd())),
        "post-dump" => saved(),
        _ => Ok(()),
    };
    service::forget_log(log_directory(&request.criu), DUMP_LOG);
    let service = Service::start(Some(places(&request.criu)), &[], || Ok(()))?;
    let answer = service.ask(kind, &options, &mut reached);
    drop(service);
    succeed(answer, "checkpoint the container", &request.criu, DUMP_LOG).map(drop)
}

/// The caller's descriptor that waits for lazy pages, of which the number is known.
fn status_descriptor(number: i32) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{number}");
    rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("open descriptor {number} of --status-fd for writing"))
}

/// The directory of the log.
pub(super) fn log_directory(criu: &Criu) -> &str {
    criu.work_path.as_ref().unwrap_or(&criu.image_path)
}

/// The answer of CRIU, or its failure with what its log says.
pub(super) fn succeed(answer: Result<Response>, action: &'static str, criu: &Criu, name: &str) -> Result<Response> {
    match answer {
        Ok(response) if response.success => Ok(response),
        answer => Err(service::failure(action, answer, log_directory(criu), name)),
    }
}
