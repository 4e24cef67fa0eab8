//! Changes of the mounts of a container that runs.
//!
//! A process joins the container for it. What is bound comes from the host, so the runtime opens it before; file systems
//! are made inside, with the rights and in the namespaces of the container.

use gantry_model::ContainerId;
use gantry_model::names::namespace::NamespaceKind;
use gantry_model::oci::linux::Linux;
use gantry_model::oci::spec::{Mount, Process, Spec};

use super::{Builder, CgroupInput, Context, Flags, Host, Input, MAX_MOUNTS, Namespaces, Opened};
use crate::error::{Error, Result};
use crate::step::{Action, Clone_, Slot, Stage, Step};

/// A change.
pub(crate) struct MountsInput<'a> {
    /// The container's identifier.
    pub(crate) id: &'a ContainerId,
    /// Absolute path of its bundle.
    pub(crate) bundle: &'a str,
    /// Its configuration.
    pub(crate) spec: &'a Spec,
    /// The host.
    pub(crate) host: &'a Host,
    /// What is mounted, or taken away.
    pub(crate) mounts: &'a [Mount],
    /// Whether it is mounted.
    pub(crate) add: bool,
    /// Namespaces of the container that are not the runtime's, `CLONE_NEW*` bits.
    pub(crate) namespaces: u64,
    /// The container's first process, an open pidfd.
    pub(crate) init: Slot,
}

/// Makes a change into steps. The first slot is the caller's.
pub(crate) fn lower_mounts(input: &MountsInput<'_>) -> Result<Vec<Step>> {
    if input.namespaces & NamespaceKind::Mount.clone_flag() == 0 {
        return Err(Error::config(
            "linux.namespaces",
            "the container has no mount namespace: its mounts are the host's",
        ));
    }
    if input.mounts.len() > MAX_MOUNTS {
        return Err(Error::config("mounts", format!("{} entries, at most {MAX_MOUNTS} fit", input.mounts.len())));
    }
    let spec = Spec { mounts: input.mounts.to_vec(), ..input.spec.clone() };
    let (no_linux, no_process) = (Linux::default(), Process::default());
    let linux = spec.linux.as_ref().unwrap_or(&no_linux);
    let asked = Input {
        id: input.id,
        bundle: input.bundle,
        spec: &spec,
        host: input.host,
        flags: &Flags::default(),
        cgroup: &CgroupInput::default(),
        start_now: false,
    };
    let context = Context {
        input: &asked,
        linux,
        process: spec.process.as_ref().unwrap_or(&no_process),
        namespaces: Namespaces::of(linux)?,
        opens_for_init: true,
        elsewhere: false,
    };
    let mut b = Builder { slots: 1, ..Builder::default() };
    let mut opened = Opened::default();
    if input.add {
        context.check_added()?;
        context.open_binds(&mut b, &mut opened)?;
    }
    let root = join(&mut b, input);
    if input.add {
        for (parsed, tree) in context.parse_mounts()?.iter().zip(opened.binds) {
            context.mount(&mut b, root, parsed, tree)?;
        }
    } else {
        // What was mounted last may lie on what was mounted before.
        for parsed in context.parse_targets()?.into_iter().rev() {
            b.init(Action::Unmount { root, path: parsed });
        }
    }
    b.init(Action::End);
    Ok(b.steps)
}

/// Makes a process in the container, as for a program that joins, and opens the root there.
fn join(b: &mut Builder, input: &MountsInput<'_>) -> Slot {
    let (user, pid) = (NamespaceKind::User.clone_flag(), NamespaceKind::Pid.clone_flag());
    b.runtime(Action::NotDumpable);
    let mut clone = Clone_::default();
    if input.namespaces & user != 0 {
        clone.stage =
            Some(Stage { join: vec![(input.init, input.namespaces as i32)], become_root: true, ..Stage::default() });
    } else if input.namespaces & pid != 0 {
        clone.join_pid = Some(input.init);
    }
    let staged = clone.stage.is_some();
    b.runtime(Action::Clone(clone));
    if !staged {
        let kind = (input.namespaces & !pid) as i32;
        b.init(Action::JoinNamespace { slot: input.init, kind, name: "container" });
    }
    b.init(Action::Umask { mask: Some(0) });
    let root = b.slot();
    b.init(Action::OpenHere { slot: root });
    root
}

impl Context<'_> {
    /// Refuses what can only be mounted while a container is made.
    fn check_added(&self) -> Result<()> {
        for (index, parsed) in self.parse_mounts()?.iter().enumerate() {
            let refuse = |reason: &str| Err(Error::config(format!("mounts[{index}]"), reason));
            match parsed.mount.kind.as_str() {
                "cgroup" | "cgroup2" => return refuse("cgroups are mounted only while the container is made"),
                _ if parsed.target == "/" => return refuse("the root of a running container cannot be covered"),
                _ if parsed.options.copy_symlink => {
                    return refuse("copy-symlink reads the host, which a process in the container does not see");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Where mounts are, of entries of which nothing but the destination counts.
    fn parse_targets(&self) -> Result<Vec<String>> {
        let target = |(index, mount): (usize, &Mount)| {
            let target = super::mounts::clean(&mount.destination);
            if target == "/" || target.contains('\0') {
                return Err(Error::config(format!("mounts[{index}]"), "the destination is no place of a mount"));
            }
            Ok(target)
        };
        self.input.spec.mounts.iter().enumerate().map(target).collect()
    }
}
