//! What is refused before anything is made, and what is left out with a warning.

use gantry_cgroup::Step as CgroupStep;
use gantry_model::names::idmap;
use gantry_model::names::mount::MountOptions;
use gantry_model::names::namespace::NamespaceKind;

use super::{Builder, Context, Input, field, process};
use crate::error::{Error, Result};

/// Accepts the versions whose documents mean the same to us (config.md, Specification version).
pub(super) fn check_version(version: &str) -> Result<()> {
    let known = || {
        let (core, pre) = version.split_once('-').map_or((version, None), |(core, pre)| (core, Some(pre)));
        let core = core.split_once('+').map_or(core, |(core, _)| core);
        let mut parts = core.split('.').map(|part| part.parse::<u32>().ok());
        let (major, minor, _patch) = (parts.next()??, parts.next()??, parts.next()??);
        (parts.next().is_none() && major == 1 && minor <= 3 && pre != Some("")).then_some(())
    };
    known().ok_or_else(|| {
        let reason = if version.is_empty() {
            "it is missing; this runtime knows versions 1.0.0 to 1.3.x".to_owned()
        } else {
            format!("{version:?} is not supported; this runtime knows versions 1.0.0 to 1.3.x")
        };
        Error::config("ociVersion", reason)
    })
}

impl Context<'_> {
    /// Refuses combinations that cannot work, before anything is touched.
    pub(super) fn check(&self) -> Result<()> {
        let Input { spec, .. } = self.input;
        let (linux, ns) = (self.linux, &self.namespaces);
        if ns.makes(NamespaceKind::User) {
            field("linux.uidMappings", idmap::validate(&linux.uid_mappings))?;
            field("linux.gidMappings", idmap::validate(&linux.gid_mappings))?;
        } else if !linux.uid_mappings.is_empty() && !ns.has(NamespaceKind::User) {
            return Err(Error::config("linux.uidMappings", "mappings need a user namespace in linux.namespaces"));
        }
        let name = |name: &'static str, value: &str| -> Result<()> {
            if value.is_empty() {
                return Ok(());
            }
            if !ns.has(NamespaceKind::Uts) {
                return Err(Error::config(name, "it would be the host's: add a uts namespace to linux.namespaces"));
            }
            if value.len() > 64 || value.contains('\0') {
                return Err(Error::config(name, "a name has at most 64 bytes and no NUL"));
            }
            Ok(())
        };
        name("hostname", &spec.hostname)?;
        name("domainname", &spec.domainname)?;
        if !linux.time_offsets.is_empty() && !ns.makes(NamespaceKind::Time) {
            return Err(Error::config("linux.timeOffsets", "offsets need a new time namespace in linux.namespaces"));
        }
        if !linux.net_devices.is_empty() {
            if !ns.has(NamespaceKind::Network) {
                return Err(Error::config("linux.netDevices", "devices need a network namespace in linux.namespaces"));
            }
            if !self.input.host.privileged {
                return Err(Error::config("linux.netDevices", "moving network devices needs root"));
            }
        }
        for (kind, hooks) in self.all_hooks() {
            for hook in hooks {
                let at = || format!("hooks.{}", kind.as_str());
                if !hook.path.starts_with('/') {
                    return Err(Error::config(at(), format!("path {:?} is not absolute", hook.path)));
                }
                if hook.timeout.is_some_and(|timeout| timeout <= 0) {
                    return Err(Error::config(at(), "a timeout is a number of seconds above zero"));
                }
            }
        }
        self.check_labels()
    }

    fn check_labels(&self) -> Result<()> {
        let host = self.input.host;
        if !self.process.apparmor_profile.is_empty() && !host.apparmor && self.process.apparmor_profile != "unconfined"
        {
            return Err(Error::config("process.apparmorProfile", "AppArmor is not enabled on this host"));
        }
        for (name, label) in
            [("process.selinuxLabel", &self.process.selinux_label), ("linux.mountLabel", &self.linux.mount_label)]
        {
            if !label.is_empty() && !host.selinux {
                return Err(Error::config(name, "SELinux is not enabled on this host"));
            }
        }
        Ok(())
    }

    /// Names everything that is asked for and not done.
    pub(super) fn ignored(&self, b: &mut Builder) {
        for step in self.input.cgroup.before.iter().chain(&self.input.cgroup.after) {
            if let CgroupStep::Ignore { what, why } = step {
                b.ignore(format!("{what}: {why}"));
            }
        }
        process::ignored(b, self.process);
        for mount in self.input.spec.mounts.iter().filter(|mount| mount.options.iter().any(|o| o.contains('='))) {
            // What cannot be read is refused where mounts are lowered.
            let options = MountOptions::parse(&mount.options).unwrap_or_default();
            if (options.bind || mount.kind == "bind") && !options.data.is_empty() {
                let data = options.data.join(",");
                b.ignore(format!(
                    "mounts: options {data} of {}: a bind takes none for a file system",
                    mount.destination
                ));
            }
        }
        let flags = self.linux.personality.as_ref().map_or(&[][..], |given| &given.flags);
        if !flags.is_empty() {
            b.ignore(format!("linux.personality.flags {}: the specification defines none", flags.join(", ")));
        }
    }
}
