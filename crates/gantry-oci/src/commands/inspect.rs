//! Commands that show or change what is known of containers.

use std::path::Path;

use gantry_model::ContainerId;
use gantry_model::oci::linux::Resources;
use gantry_model::oci::spec::Mount;
use gantry_oci::cli::{Format, Limits, List, Mounts, Ps, SpecFile, Update};
use gantry_oci::log::Log;
use gantry_oci::output::{self, ContainerRow};
use gantry_oci::{features as document, template};
use gantry_runtime::{Report, Runtime};

use gantry_seccomp::{Arch, Flags, KNOWN_ACTIONS, KNOWN_FLAGS, KNOWN_OPERATORS};

use super::{Failure, failure, print, read_document, read_file};

fn row(report: &Report) -> ContainerRow {
    let Report { record, spec, status } = report;
    ContainerRow {
        oci_version: record.oci_version.clone(),
        id: record.id.clone(),
        pid: if *status == gantry_model::oci::state::Status::Stopped { 0 } else { record.pid },
        status: *status,
        bundle: record.bundle.clone(),
        rootfs: record.rootfs.clone(),
        created: record.created.clone(),
        annotations: spec.annotations.clone(),
        owner: user_name(record.owner),
    }
}

/// A user's name by the host's passwd file, or the number.
fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    passwd.lines().find_map(named).unwrap_or_else(|| format!("#{uid}"))
}

pub(super) fn state(runtime: &Runtime, id: &ContainerId) -> Result<u8, Failure> {
    print(&output::state(&row(&runtime.report(id)?))?)
}

pub(super) fn list(runtime: &Runtime, list: List, rooted: bool, log: &Log) -> Result<u8, Failure> {
    // The usual directory is made with the first container; one that was named should be there.
    if rooted && !Path::new(runtime.store.root()).is_dir() {
        return failure(format!("--root {} is no directory", runtime.store.root()));
    }
    let mut rows = Vec::new();
    for (id, report) in runtime.list()? {
        match report {
            Ok(report) => rows.push(row(&report)),
            // One that is just being made or removed.
            Err(gantry_runtime::Error::NotFound(_)) => {}
            Err(error) => log.warn(format!("container {id}: {error}")),
        }
    }
    print(&match (list.quiet, list.format) {
        (true, _) => output::list_quiet(&rows),
        (false, Format::Table) => output::list_table(&rows),
        (false, Format::Json) => output::list_json(&rows)?,
    })
}

pub(super) fn ps(runtime: &Runtime, ps: &Ps) -> Result<u8, Failure> {
    let pids = runtime.pids(&ps.id)?;
    print(&match ps.format {
        Format::Json => output::ps_json(&pids)?,
        Format::Table => output::ps(&ps.args, &pids)?,
    })
}

pub(super) fn update(runtime: &Runtime, update: Update) -> Result<u8, Failure> {
    let parse = |text: &[u8]| {
        serde_json::from_slice::<Resources>(text).map_err(|cause| Failure::of(format!("parse resources: {cause}")))
    };
    let resources = match update.limits {
        Limits::Given(resources) => *resources,
        Limits::File(path) => parse(&read_file(&path)?)?,
        Limits::Stdin => parse(&read_document(std::io::stdin(), "the standard input")?)?,
    };
    let schemata: Vec<String> = update.l3_cache_schema.into_iter().chain(update.mem_bw_schema).collect();
    runtime.update(&update.id, &resources, &schemata)?;
    Ok(0)
}

pub(super) fn mounts(runtime: &Runtime, change: &Mounts) -> Result<u8, Failure> {
    let document = read_file(&change.file)?;
    let parse = |cause| Failure::of(format!("parse {}: {cause}", change.file.display()));
    let mounts: Vec<Mount> = serde_json::from_slice(&document).map_err(parse)?;
    runtime.change_mounts(&change.id, &mounts, change.add)?;
    Ok(0)
}

pub(super) fn features() -> Result<u8, Failure> {
    let architectures: Vec<&str> = Arch::ALL.into_iter().map(Arch::oci_name).collect();
    let taken = |flag: &&str| {
        let names = [(*flag).to_owned()];
        // WAIT_KILLABLE_RECV is taken only together with a listener.
        Flags::of_names(&names).is_ok_and(|flags| {
            let extra = if flags.contains(Flags::WAIT_KILLABLE_RECV) { Flags::NEW_LISTENER.bits() } else { 0 };
            gantry_sys::seccomp::flags_available(u64::from(flags.bits() | extra))
        })
    };
    let supported: Vec<&str> = KNOWN_FLAGS.into_iter().filter(taken).collect();
    let seccomp = document::Seccomp {
        actions: &KNOWN_ACTIONS,
        operators: &KNOWN_OPERATORS,
        architectures: &architectures,
        known_flags: &KNOWN_FLAGS,
        supported_flags: &supported,
    };
    print(&document::document(&document::features(&seccomp))?)
}

pub(super) fn spec(spec: &SpecFile) -> Result<u8, Failure> {
    use std::io::Write;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let unified = gantry_runtime::host::unified_cgroups();
    let host = template::Host { unified, rootless: spec.rootless.then_some((uid, gid)) };
    let document = template::document(&template::spec(host))?;
    let bundle = spec.bundle.clone().unwrap_or_default();
    let path = bundle.join(spec.file.clone().unwrap_or_else(|| "config.json".into()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    if spec.file.is_some() {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let file = options.open(&path);
    match file.and_then(|mut file| file.write_all(document.as_bytes())) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            failure(format!("{} exists; remove it first", path.display()))
        }
        result => result.map(|()| 0).map_err(|cause| Failure::of(format!("write {}: {cause}", path.display()))),
    }
}
