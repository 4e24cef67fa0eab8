//! Checkpoint and restore by CRIU, which is asked over the protocol of its service: that gives the restored process as
//! a child of this one, its terminal, and a word at the points where the runtime has something to do.
//!
//! [`plan`] decides what CRIU is asked; [`service`] runs it and carries the conversation; [`root`] makes the root file
//! system ready in a mount namespace that goes away with CRIU.

pub(crate) mod facts;
pub(crate) mod option;
pub(crate) mod plan;
pub(crate) mod root;
pub(crate) mod service;
mod wire;

use gantry_model::ContainerId;

pub use option::{ManageCgroups, NetworkLock};

use crate::lower::Flags;

/// What a checkpoint and a restoration share.
#[derive(Clone, Debug, Default)]
pub struct Criu {
    /// Directory of the images.
    pub image_path: String,
    /// Directory of the log; absent is that of the images.
    pub work_path: Option<String>,
    /// Whether established TCP connections are taken along.
    pub tcp_established: bool,
    /// Whether unix sockets may have an end outside.
    pub ext_unix_sk: bool,
    /// Whether session and terminal may be from outside.
    pub shell_job: bool,
    /// Whether memory moves on demand.
    pub lazy_pages: bool,
    /// Whether file locks are taken along.
    pub file_locks: bool,
    /// How cgroups are treated; absent is soft.
    pub manage_cgroups: Option<ManageCgroups>,
    /// Whether the network namespace comes back empty even where it was joined; one that was made always does.
    pub empty_network: bool,
    /// Whether pages that newer images have are dropped from older ones.
    pub auto_dedup: bool,
    /// How the network is held still; absent is by iptables where that is installed, and by nftables otherwise.
    pub network_lock: Option<NetworkLock>,
}

/// What is asked of a checkpoint.
#[derive(Clone, Debug)]
pub struct CheckpointRequest<'a> {
    /// The container.
    pub id: &'a ContainerId,
    /// What it shares with a restoration.
    pub criu: Criu,
    /// Directory of the images that these build upon, relative to theirs.
    pub parent_path: Option<String>,
    /// The path that the directory of the images gets once it is whole and on the disk, while the processes still wait: if
    /// this fails they go on. It lies in the same file system, and must not exist.
    pub commit_to: Option<String>,
    /// Whether the container runs on.
    pub leave_running: bool,
    /// Whether TCP connections that are not established yet are left out.
    pub tcp_skip_in_flight: bool,
    /// Whether files that were unlinked are linked back for the time between.
    pub link_remap: bool,
    /// Descriptor that gets a NUL byte when lazy pages can be asked for.
    pub status_fd: Option<i32>,
    /// Address and port of the page server.
    pub page_server: Option<(String, u16)>,
    /// Whether memory alone is saved, and the container runs on.
    pub pre_dump: bool,
}

/// What is asked of a restoration.
#[derive(Clone, Debug)]
pub struct RestoreRequest<'a> {
    /// The container that it becomes.
    pub id: &'a ContainerId,
    /// Absolute path of the bundle.
    pub bundle: &'a str,
    /// What it shares with a checkpoint.
    pub criu: Criu,
    /// Flags of the command line.
    pub flags: &'a Flags,
    /// Whether established TCP connections come back closed.
    pub tcp_close: bool,
    /// Label of the processes, `TYPE:NAME`.
    pub lsm_profile: Option<String>,
    /// Label of the mounts.
    pub lsm_mount_context: Option<String>,
    /// The moment, RFC 3339.
    pub now: &'a str,
}
