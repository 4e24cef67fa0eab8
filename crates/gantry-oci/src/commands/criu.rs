//! `checkpoint` and `restore`.

use std::os::fd::AsFd;

use gantry_oci::cli;
use gantry_oci::foreground::{self, Blocked};
use gantry_oci::log::Log;
use gantry_runtime::{CheckpointRequest, Criu, Flags, ManageCgroups, NetworkLock, RestoreRequest, Runtime};

use super::process::{absolute, console_of, now};
use super::{Failure, text};

pub(super) fn checkpoint(runtime: &Runtime, checkpoint: &cli::Checkpoint) -> Result<u8, Failure> {
    runtime.checkpoint(&CheckpointRequest {
        id: &checkpoint.id,
        criu: criu(&checkpoint.criu)?,
        parent_path: checkpoint.parent_path.as_deref().map(text).transpose()?,
        commit_to: checkpoint.commit_to.as_deref().map(|path| text(&std::path::absolute(path)?)).transpose()?,
        leave_running: checkpoint.leave_running,
        tcp_skip_in_flight: checkpoint.tcp_skip_in_flight,
        link_remap: checkpoint.link_remap,
        status_fd: checkpoint.status_fd,
        page_server: checkpoint.page_server.clone(),
        pre_dump: checkpoint.pre_dump,
    })?;
    Ok(0)
}

pub(super) fn restore(runtime: &Runtime, restore: &cli::Restore, log: &Log) -> Result<u8, Failure> {
    let flags = Flags {
        console: console_of(restore.console_socket.as_deref(), !restore.detach)?,
        pid_file: restore.pid_file.as_deref().map(text).transpose()?,
        no_pivot: restore.no_pivot,
        ..Flags::default()
    };
    let (bundle, now) = (absolute(restore.bundle.as_deref())?, now());
    let request = RestoreRequest {
        id: &restore.id,
        bundle: &bundle,
        criu: criu(&restore.criu)?,
        flags: &flags,
        tcp_close: restore.tcp_close,
        lsm_profile: restore.lsm_profile.clone(),
        lsm_mount_context: restore.lsm_mount_context.clone(),
        now: &now,
    };
    if restore.detach {
        runtime.restore(&request)?;
        return Ok(0);
    }
    if !restore.no_subreaper {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    let blocked = Blocked::new()?;
    let restored = runtime.restore(&request)?;
    let process = foreground::Process { pid: restored.pid, pidfd: restored.pidfd.as_fd() };
    let status = foreground::supervise(&blocked, process, restored.console, log);
    runtime.delete(&restore.id, true)?;
    Ok(foreground::exit_code(status?))
}

fn criu(asked: &cli::Criu) -> Result<Criu, Failure> {
    let path = |path: &std::path::Path| text(&std::path::absolute(path)?);
    Ok(Criu {
        image_path: path(asked.image_path.as_deref().unwrap_or("checkpoint".as_ref()))?,
        work_path: asked.work_path.as_deref().map(path).transpose()?,
        tcp_established: asked.tcp_established,
        ext_unix_sk: asked.ext_unix_sk,
        shell_job: asked.shell_job,
        lazy_pages: asked.lazy_pages,
        file_locks: asked.file_locks,
        manage_cgroups: asked.manage_cgroups.map(|mode| match mode {
            cli::ManageCgroups::Soft => ManageCgroups::Soft,
            cli::ManageCgroups::Full => ManageCgroups::Full,
            cli::ManageCgroups::Strict => ManageCgroups::Strict,
            cli::ManageCgroups::Ignore => ManageCgroups::Ignore,
        }),
        empty_network: asked.empty_network,
        auto_dedup: asked.auto_dedup,
        network_lock: asked.network_lock.map(|lock| match lock {
            cli::NetworkLock::Iptables => NetworkLock::Iptables,
            cli::NetworkLock::Nftables => NetworkLock::Nftables,
            cli::NetworkLock::Skip => NetworkLock::Skip,
        }),
    })
}
