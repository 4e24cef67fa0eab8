//! The peers' box: real engines and runtimes to test with and to measure beside.
//!
//! It is a Debian root of its own, so that what the host has installed, or lacks, changes no result.

use crate::sh;
use anyhow::Result;
use std::process::{Command, ExitCode};

/// What is installed in the box.
const PACKAGES: &[&str] = &[
    "apache2-utils",
    "buildah",
    "busybox-static",
    "ca-certificates",
    "containerd",
    "containernetworking-plugins",
    "criu",
    "crun",
    "curl",
    "docker-buildx",
    "docker-cli",
    "docker-registry",
    "docker.io",
    "e2fsprogs",
    "fuse-overlayfs",
    "iproute2",
    "iptables",
    "jq",
    "nftables",
    "openssl",
    "passt",
    "podman",
    "procps",
    "python3",
    "runc",
    "skopeo",
    "strace",
    "uidmap",
    "umoci",
    "wrk",
    "zstd",
];

const SCRIPT: &str = include_str!("../scripts/peers.sh");

const USAGE: &str = "\
usage: cargo xtask peers install          make the box from Debian's packages (about a minute)
       cargo xtask peers run CMD ...      run a command in it: runc, crun, podman, docker, containerd, ctr ...
       cargo xtask peers v2 CMD ...       the same, with cgroup v2 alone at /sys/fs/cgroup
       cargo xtask peers sealed CMD ...   the same, with processes, network, /run and engine state of its own
       cargo xtask peers down             end what holds the box's mounts
       cargo xtask peers remove           the same, and remove the box

GANTRY_PEERS_DIR says where the box is (/var/tmp/gantry-peers).
";

/// `cargo xtask peers`.
pub fn main(args: &[String]) -> Result<ExitCode> {
    let Some(verb @ ("install" | "run" | "v2" | "sealed" | "down" | "remove")) = args.first().map(String::as_str)
    else {
        eprint!("{USAGE}");
        return Ok(ExitCode::from(2));
    };
    let args: Vec<&str> = args[1..].iter().map(String::as_str).collect();
    Ok(sh::exit_code(sh::status(&mut command(verb, &args))?))
}

/// A command for the box: a verb of its script, and the arguments of that.
pub fn command(verb: &str, args: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", SCRIPT, "peers"]);
    command.arg(sh::dir_from_env("GANTRY_PEERS_DIR", "/var/tmp/gantry-peers"));
    command.arg(PACKAGES.join(",")).arg(sh::root()).arg(verb).args(args);
    command
}

/// Makes the box if there is none, and brings it up until the answer is dropped. A box that was up stays up.
pub fn hold() -> Result<Hold> {
    let was_up = sh::status(&mut command("is-up", &[]))?.success();
    sh::run(&mut command("install", &[]))?;
    sh::run(&mut command("up", &[]))?;
    Ok(Hold { was_up })
}

/// A box that is up.
pub struct Hold {
    was_up: bool,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.was_up {
            return;
        }
        if let Err(error) = sh::run(&mut command("down", &[])) {
            eprintln!("peers: cannot take the box down: {error:#}");
        }
    }
}
