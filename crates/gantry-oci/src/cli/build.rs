//! From flags and arguments to the typed request. Each function reads the flags of one command, all of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use gantry_model::ContainerId;
use gantry_model::names::signal;
use gantry_model::oci::linux::{BlockIo, Cpu, Memory, Pids, Resources};

use super::scan::{Matches, Scope, scan};
use super::table::{COMMANDS, CommandSpec, GLOBAL};
use super::{
    CgroupManager, Checkpoint, Command, Create, Criu, Delete, Events, Exec, ExecProcess, Format, Global, Invocation,
    Kill, Limits, List, ManageCgroups, Mounts, NetworkLock, Pattern, ProcessChanges, Ps, Refused, Restore, Run, Shell,
    SpecFile, Target, Update, UsageError, completions, error, help, man, table, value,
};
use crate::log;

/// Reads a command line, without the program's name.
pub(super) fn invocation(args: Vec<OsString>) -> Result<Invocation, Box<Refused>> {
    let mut flags = Matches::default();
    let command = command(args, &mut flags);
    // Where the command line is wrong, what it says of the log still counts: the caller reads the reason there.
    let (global, global_error) = global(&mut flags);
    let error = match (command, global_error) {
        (Ok(command @ Command::Print(_)), _) | (Ok(command), None) => return Ok(Invocation { global, command }),
        (Err(error), _) | (Ok(_), Some(error)) => error,
    };
    Err(Box::new(Refused { global, error }))
}

/// Reads everything; global flags are left in `global`.
fn command(args: Vec<OsString>, global: &mut Matches) -> Result<Command, UsageError> {
    scan(Scope::Global, args, global)?;
    if global.switch("help")? {
        return Ok(Command::Print(help()));
    }
    if global.switch("version")? {
        return Ok(Command::Print(help::version()));
    }
    let mut rest = std::mem::take(&mut global.arguments).into_iter();
    let name = rest.next().ok_or(UsageError::NoCommand)?;
    let spec = find(&name.to_string_lossy())?;
    let mut flags = Matches::of(spec.name);
    let scanned = scan(Scope::Command(spec), rest.collect(), &mut flags);
    global.append(flags.split_off(GLOBAL));
    scanned?;
    if flags.has("help") {
        return Ok(Command::Print(help::command_help(spec)));
    }
    count(spec, &flags)?;
    let command = build(spec.name, &mut flags)?;
    debug_assert_eq!(flags.untaken(), [""; 0], "flags of the table that {} does not read", spec.name);
    Ok(command)
}

fn find(name: &str) -> Result<&'static CommandSpec, UsageError> {
    table::command(name).ok_or_else(|| UsageError::UnknownCommand {
        name: name.chars().take(200).collect(),
        nearest: error::nearest(name, COMMANDS.iter().map(|c| c.name)).map(str::to_owned),
    })
}

fn count(spec: &'static CommandSpec, flags: &Matches) -> Result<(), UsageError> {
    let given = flags.arguments.len();
    if given < spec.least_arguments() {
        let missing = spec.arguments[given];
        return Err(UsageError::TooFew { command: spec.name, missing, usage: help::synopsis(spec) });
    }
    if spec.most_arguments().is_some_and(|most| given > most) {
        let extra = flags.arguments[spec.arguments.len()].to_string_lossy().chars().take(200).collect();
        return Err(UsageError::TooMany { command: spec.name, extra, usage: help::synopsis(spec) });
    }
    Ok(())
}

fn build(name: &str, flags: &mut Matches) -> Result<Command, UsageError> {
    Ok(match name {
        "create" => Command::Create(create(flags)?),
        "start" => Command::Start(id(flags)?),
        "run" => Command::Run(run(flags)?),
        "exec" => Command::Exec(exec(flags)?),
        "kill" => Command::Kill(kill(flags)?),
        "delete" => Command::Delete(Delete { force: flags.switch("force")?, target: target(flags)? }),
        "state" => Command::State(id(flags)?),
        "list" => Command::List(List { format: format(flags)?, quiet: flags.switch("quiet")? }),
        "ps" => Command::Ps(ps(flags)?),
        "pause" => Command::Pause(id(flags)?),
        "resume" => Command::Resume(id(flags)?),
        "update" => Command::Update(update(flags)?),
        "events" => Command::Events(events(flags)?),
        "features" => Command::Features,
        "spec" => Command::Spec(SpecFile {
            bundle: flags.path("bundle"),
            file: flags.path("file"),
            rootless: flags.switch("rootless")?,
        }),
        "checkpoint" => Command::Checkpoint(checkpoint(flags)?),
        "restore" => Command::Restore(restore(flags)?),
        "mounts" => Command::Mounts(mounts(flags)?),
        _ => Command::Print(document(name, flags)?),
    })
}

/// `completions`, `man` and `help`.
fn document(name: &str, flags: &mut Matches) -> Result<String, UsageError> {
    let argument = optional(flags, "argument")?;
    match (name, argument) {
        ("completions", Some(shell)) => {
            Shell::named(&shell).map(completions).ok_or_else(|| flags.bad("the shell", &shell, "bash, zsh or fish"))
        }
        ("man", Some(command)) => Ok(man::command_page(find(&command)?)),
        ("man", None) => Ok(man::page()),
        (_, Some(command)) => Ok(help::command_help(find(&command)?)),
        (_, None) => Ok(help()),
    }
}

/// The flags for every command, and the first thing that is wrong with them.
fn global(flags: &mut Matches) -> (Global, Option<UsageError>) {
    let mut out = Global::default();
    let mut wrong = None;
    let mut note = |result: Result<(), UsageError>| {
        if let Err(error) = result {
            wrong.get_or_insert(error);
        }
    };
    // The log comes first: what is wrong with the others is written there.
    if let Some(path) = flags.path("log") {
        out.log = log::Target::named(path);
    }
    note(
        flags.parsed("log-format", "text or json", log::Format::named).map(|f| out.log_format = f.unwrap_or_default()),
    );
    note(
        flags
            .parsed("log-level", "error, warning or debug", log::Level::named)
            .map(|l| out.log_level = l.unwrap_or_default()),
    );
    note(flags.switch("debug").map(|debug| {
        if debug {
            out.log_level = log::Level::Debug;
        }
    }));
    note(root(flags).map(|root| out.root = root));
    note(cgroups(flags).map(|cgroups| out.cgroups = cgroups));
    note(rootless(flags).map(|rootless| out.rootless = rootless));
    flags.path("criu");
    debug_assert!(wrong.is_some() || flags.untaken().is_empty(), "global flags not read: {:?}", flags.untaken());
    (out, wrong)
}

fn root(flags: &mut Matches) -> Result<Option<PathBuf>, UsageError> {
    let given = flags.has("root");
    let root = flags.path("root");
    let text = root.as_ref().map(|r| r.to_string_lossy().into_owned()).unwrap_or_default();
    if given && text.trim_matches('/').is_empty() {
        return Err(flags.bad("--root", &text, "a directory that is not /"));
    }
    Ok(root)
}

fn cgroups(flags: &mut Matches) -> Result<CgroupManager, UsageError> {
    let systemd = flags.switch("systemd-cgroup")?;
    let named = flags.parsed("cgroup-manager", "systemd, cgroupfs or disabled", |text| match text {
        "systemd" => Some(CgroupManager::Systemd),
        "cgroupfs" => Some(CgroupManager::Cgroupfs),
        "disabled" => Some(CgroupManager::Disabled),
        _ => None,
    })?;
    Ok(named.unwrap_or(if systemd { CgroupManager::Systemd } else { CgroupManager::Cgroupfs }))
}

fn rootless(flags: &mut Matches) -> Result<Option<bool>, UsageError> {
    let read = |text: &str| {
        if text.eq_ignore_ascii_case("auto") { Some(None) } else { value::boolean(text).map(Some) }
    };
    Ok(flags.parsed("rootless", "true, false or auto", read)?.flatten())
}

/// The next argument as text, if there is one.
fn optional(flags: &mut Matches, name: &str) -> Result<Option<String>, UsageError> {
    if flags.arguments.is_empty() {
        return Ok(None);
    }
    let value = flags.arguments.remove(0);
    flags.utf8(name, value).map(Some)
}

/// The next argument as text. How many there are was checked.
fn argument(flags: &mut Matches, name: &str) -> Result<String, UsageError> {
    Ok(optional(flags, name)?.unwrap_or_default())
}

/// The next argument as a container's name.
fn id(flags: &mut Matches) -> Result<ContainerId, UsageError> {
    let text = argument(flags, "the container id")?;
    ContainerId::new(&text).map_err(|source| UsageError::Id { command: flags.command, source })
}

fn target(flags: &mut Matches) -> Result<Target, UsageError> {
    if !flags.switch("regex")? {
        return Ok(Target::Id(id(flags)?));
    }
    let text = argument(flags, "the pattern")?;
    Pattern::new(&text).map(Target::Matching).ok_or_else(|| flags.bad("the pattern", &text, "a regular expression"))
}

fn count_of(flags: &mut Matches, long: &str) -> Result<u32, UsageError> {
    let read = |text: &str| text.parse().ok().filter(|&n: &u32| n <= MOST_DESCRIPTORS);
    Ok(flags.parsed(long, "a number from 0 to 1048576", read)?.unwrap_or(0))
}

/// The most descriptors that a process has by the kernel's default (`fs.nr_open`).
const MOST_DESCRIPTORS: u32 = 1 << 20;

fn create(flags: &mut Matches) -> Result<Create, UsageError> {
    // There is nothing to adopt for a command that returns at once: callers pass it all the same.
    flags.switch("no-subreaper")?;
    Ok(Create {
        bundle: flags.path("bundle"),
        config: flags.path("config"),
        console_socket: flags.path("console-socket"),
        pidfd_socket: flags.path("pidfd-socket"),
        pid_file: flags.path("pid-file"),
        no_pivot: flags.switch("no-pivot")?,
        no_new_keyring: flags.switch("no-new-keyring")?,
        preserve_fds: count_of(flags, "preserve-fds")?,
        id: id(flags)?,
    })
}

fn run(flags: &mut Matches) -> Result<Run, UsageError> {
    Ok(Run {
        detach: flags.switch("detach")?,
        keep: flags.switch("keep")?,
        no_subreaper: flags.switch("no-subreaper")?,
        dry_run: flags.switch("dry-run")?,
        create: create(flags)?,
    })
}

fn exec(flags: &mut Matches) -> Result<Exec, UsageError> {
    let mut changes = ProcessChanges {
        args: Vec::new(),
        cwd: flags.text("cwd")?,
        env: flags.texts("env")?,
        terminal: flags.switch("tty")?,
        user: flags.parsed("user", "UID or UID:GID, both numbers", user)?,
        additional_gids: gids(flags)?,
        process_label: flags.text("process-label")?,
        apparmor: flags.text("apparmor")?,
        no_new_privs: flags.maybe_switch("no-new-privs")?,
        caps: flags.texts("cap")?,
    };
    let file = flags.path("process");
    let mut exec = Exec {
        console_socket: flags.path("console-socket"),
        pidfd_socket: flags.path("pidfd-socket"),
        pid_file: flags.path("pid-file"),
        detach: flags.switch("detach")?,
        preserve_fds: count_of(flags, "preserve-fds")?,
        cgroups: sub_cgroups(flags)?,
        ignore_paused: flags.switch("ignore-paused")?,
        id: id(flags)?,
        process: ExecProcess::File(PathBuf::new()),
    };
    exec.process = match file {
        Some(file) => ExecProcess::File(file),
        None if flags.arguments.is_empty() => return Err(UsageError::NothingToExec(exec.id.to_string())),
        None => {
            let given = std::mem::take(&mut flags.arguments).into_iter();
            changes.args = given.map(|a| flags.utf8("an argument of the command", a)).collect::<Result<_, _>>()?;
            ExecProcess::Changed(Box::new(changes))
        }
    };
    Ok(exec)
}

/// `UID[:GID]`.
fn user(text: &str) -> Option<(u32, Option<u32>)> {
    match text.split_once(':') {
        Some((uid, gid)) => Some((number(uid)?, Some(number(gid)?))),
        None => Some((number(text)?, None)),
    }
}

/// An id: digits alone, and not the one that means none.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&n| digits && n != u32::MAX)
}

fn gids(flags: &mut Matches) -> Result<Vec<u32>, UsageError> {
    let given = flags.texts("additional-gids")?;
    let read =
        |text: String| number(&text).ok_or_else(|| flags.bad("--additional-gids", &text, "the number of a group"));
    given.into_iter().map(read).collect()
}

/// `--cgroup`: one path for cgroup v2, or a path for lists of controllers of v1.
fn sub_cgroups(flags: &mut Matches) -> Result<BTreeMap<String, String>, UsageError> {
    let given = flags.texts("cgroup")?;
    let mut out = BTreeMap::new();
    for text in &given {
        let (controllers, path) = text.split_once(':').unwrap_or(("", text));
        if !text.contains(':') && given.len() > 1 {
            return Err(flags.bad("--cgroup", text, "CONTROLLERS:PATH where it is given more than once"));
        }
        for controller in controllers.split(',') {
            if controller.is_empty() && text.contains(':') {
                return Err(flags.bad("--cgroup", text, "PATH or CONTROLLERS:PATH, without an empty controller"));
            }
            if out.insert(controller.to_owned(), path.to_owned()).is_some() {
                return Err(flags.bad(
                    "--cgroup",
                    text,
                    format!("another controller: {controller} has a path already"),
                ));
            }
        }
    }
    Ok(out)
}

fn kill(flags: &mut Matches) -> Result<Kill, UsageError> {
    let all = flags.switch("all")?;
    let target = target(flags)?;
    let text = optional(flags, "the signal")?.filter(|s| !s.is_empty()).unwrap_or_else(|| "SIGTERM".to_owned());
    let signal = signal::parse(&text)
        .map_err(|_| flags.bad("the signal", &text, "a name as TERM or SIGTERM, or a number from 0 to 64"))?;
    Ok(Kill { target, signal, all })
}

fn format(flags: &mut Matches) -> Result<Format, UsageError> {
    let read = |text: &str| match text {
        "table" => Some(Format::Table),
        "json" => Some(Format::Json),
        _ => None,
    };
    Ok(flags.parsed("format", "table or json", read)?.unwrap_or_default())
}

fn ps(flags: &mut Matches) -> Result<Ps, UsageError> {
    Ok(Ps { format: format(flags)?, id: id(flags)?, args: std::mem::take(&mut flags.arguments) })
}

fn events(flags: &mut Matches) -> Result<Events, UsageError> {
    let interval = flags.parsed("interval", "a duration above zero, as 500ms or 5s", value::duration)?;
    Ok(Events { interval: interval.unwrap_or(Duration::from_secs(5)), stats: flags.switch("stats")?, id: id(flags)? })
}

fn update(flags: &mut Matches) -> Result<Update, UsageError> {
    let file = flags.path("resources");
    let given = resources(flags)?;
    Ok(Update {
        limits: match file {
            Some(path) if path.as_os_str() == "-" => Limits::Stdin,
            Some(path) => Limits::File(path),
            None => Limits::Given(Box::new(given)),
        },
        l3_cache_schema: flags.text("l3-cache-schema")?,
        mem_bw_schema: flags.text("mem-bw-schema")?,
        id: id(flags)?,
    })
}

fn resources(flags: &mut Matches) -> Result<Resources, UsageError> {
    let unsigned = |text: &str| text.parse::<u64>().ok();
    let signed = |text: &str| text.parse::<i64>().ok();
    let (usec, usec_signed) = ("a number of microseconds", "a number of microseconds, or -1");
    let size = "a size in bytes, as 1048576 or 512m, or -1";
    let cpu = Cpu {
        shares: flags.parsed("cpu-share", "a number", unsigned)?,
        quota: flags.parsed("cpu-quota", usec_signed, signed)?,
        burst: flags.parsed("cpu-burst", usec, unsigned)?,
        period: flags.parsed("cpu-period", usec, unsigned)?,
        realtime_runtime: flags.parsed("cpu-rt-runtime", usec_signed, signed)?,
        realtime_period: flags.parsed("cpu-rt-period", usec, unsigned)?,
        cpus: flags.text("cpuset-cpus")?.unwrap_or_default(),
        mems: flags.text("cpuset-mems")?.unwrap_or_default(),
        idle: flags.parsed("cpu-idle", "0 or 1", |text| signed(text).filter(|n| matches!(n, 0 | 1)))?,
    };
    let memory = Memory {
        limit: flags.parsed("memory", size, value::size)?,
        reservation: flags.parsed("memory-reservation", size, value::size)?,
        swap: flags.parsed("memory-swap", size, value::size)?,
        kernel: flags.parsed("kernel-memory", size, value::size)?,
        kernel_tcp: flags.parsed("kernel-memory-tcp", size, value::size)?,
        ..Memory::default()
    };
    let pids = Pids { limit: flags.parsed("pids-limit", "a number of tasks, or -1", signed)? };
    // Zero has always meant "leave it" here.
    let weight = |text: &str| text.parse().ok().filter(|&n: &u16| n == 0 || (10..=1000).contains(&n));
    let weight = flags.parsed("blkio-weight", "a number from 10 to 1000", weight)?.filter(|&n| n != 0);
    let block_io = BlockIo { weight, ..BlockIo::default() };
    Ok(Resources {
        cpu: Some(cpu).filter(|c| *c != Cpu::default()),
        memory: Some(memory).filter(|m| *m != Memory::default()),
        pids: Some(pids).filter(|p| *p != Pids::default()),
        block_io: Some(block_io).filter(|b| *b != BlockIo::default()),
        ..Resources::default()
    })
}

fn criu(flags: &mut Matches) -> Result<Criu, UsageError> {
    let cgroups = |text: &str| match text {
        "soft" => Some(ManageCgroups::Soft),
        "full" => Some(ManageCgroups::Full),
        "strict" => Some(ManageCgroups::Strict),
        "ignore" => Some(ManageCgroups::Ignore),
        _ => None,
    };
    let lock = |text: &str| match text {
        "iptables" => Some(NetworkLock::Iptables),
        "nftables" => Some(NetworkLock::Nftables),
        "skip" => Some(NetworkLock::Skip),
        _ => None,
    };
    let empty = flags.texts("empty-ns")?;
    if let Some(kind) = empty.iter().find(|kind| *kind != "network") {
        return Err(flags.bad("--empty-ns", kind, "network"));
    }
    Ok(Criu {
        image_path: flags.path("image-path"),
        work_path: flags.path("work-path"),
        tcp_established: flags.switch("tcp-established")?,
        ext_unix_sk: flags.switch("ext-unix-sk")?,
        shell_job: flags.switch("shell-job")?,
        lazy_pages: flags.switch("lazy-pages")?,
        file_locks: flags.switch("file-locks")?,
        manage_cgroups: flags.parsed("manage-cgroups-mode", "soft, full, strict or ignore", cgroups)?,
        empty_network: !empty.is_empty(),
        auto_dedup: flags.switch("auto-dedup")?,
        network_lock: flags.parsed("network-lock", "iptables, nftables or skip", lock)?,
    })
}

fn checkpoint(flags: &mut Matches) -> Result<Checkpoint, UsageError> {
    let parent_path = flags.path("parent-path");
    if let Some(path) = parent_path.as_ref().filter(|p| p.is_absolute()) {
        return Err(flags.bad("--parent-path", &path.to_string_lossy(), "relative to --image-path"));
    }
    // The value before there is one is -1, which callers pass on.
    let descriptor = |text: &str| text.parse().ok().filter(|&fd: &i32| fd >= -1);
    Ok(Checkpoint {
        criu: criu(flags)?,
        parent_path,
        commit_to: flags.path("commit-to"),
        leave_running: flags.switch("leave-running")?,
        tcp_skip_in_flight: flags.switch("tcp-skip-in-flight")?,
        link_remap: flags.switch("link-remap")?,
        status_fd: flags.parsed("status-fd", "the number of a descriptor", descriptor)?.filter(|&fd| fd >= 0),
        page_server: flags.parsed("page-server", "ADDRESS:PORT", page_server)?,
        pre_dump: flags.switch("pre-dump")?,
        id: id(flags)?,
    })
}

/// `ADDRESS:PORT`, an IPv6 address in brackets.
fn page_server(text: &str) -> Option<(String, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    let bare = match address.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if address.contains(':') => return None,
        None => address,
    };
    let port = port.parse().ok().filter(|&p: &u16| p > 0)?;
    (!bare.is_empty()).then(|| (bare.to_owned(), port))
}

fn restore(flags: &mut Matches) -> Result<Restore, UsageError> {
    let profile = |text: &str| {
        let (kind, name) = text.split_once(':')?;
        (!kind.is_empty() && !name.is_empty()).then(|| text.to_owned())
    };
    Ok(Restore {
        criu: criu(flags)?,
        bundle: flags.path("bundle"),
        console_socket: flags.path("console-socket"),
        pid_file: flags.path("pid-file"),
        detach: flags.switch("detach")?,
        no_subreaper: flags.switch("no-subreaper")?,
        no_pivot: flags.switch("no-pivot")?,
        tcp_close: flags.switch("tcp-close")?,
        lsm_profile: flags.parsed("lsm-profile", "TYPE:NAME", profile)?,
        lsm_mount_context: flags.text("lsm-mount-context")?,
        id: id(flags)?,
    })
}

fn mounts(flags: &mut Matches) -> Result<Mounts, UsageError> {
    let verb = argument(flags, "the verb")?;
    if !matches!(verb.as_str(), "add" | "remove") {
        return Err(flags.bad("the verb", &verb, "add or remove"));
    }
    Ok(Mounts { add: verb == "add", id: id(flags)?, file: PathBuf::from(flags.arguments.remove(0)) })
}
