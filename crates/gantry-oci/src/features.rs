//! The document of `features`: what the runtime can do, on whatever host. The lists are those by which the names are
//! read elsewhere, so that none is promised that is not known.

use std::collections::BTreeMap;

use gantry_model::names::{capability, mempolicy, mount, namespace};
use gantry_model::oci::features::{
    CgroupFeatures, Enabled, Features, IntelRdtFeatures, LinuxFeatures, MemoryPolicyFeatures, MountExtensions,
    SeccompFeatures,
};

use crate::cli::SPEC_VERSION;

/// The oldest version of the specification whose documents are taken.
pub const OLDEST_SPEC_VERSION: &str = "1.0.0";

const HOOKS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Annotations that reach beyond the container: a prefix where it ends in a dot.
const UNSAFE_ANNOTATIONS: [&str; 4] = ["bundle", "org.systemd.property.", "org.criu.config", "run.oci."];

/// The names that the compiler of system call filters knows, and what the kernel takes of them.
#[derive(Clone, Copy, Debug)]
pub struct Seccomp<'a> {
    /// Actions, as `SCMP_ACT_ERRNO`.
    pub actions: &'a [&'a str],
    /// Operators, as `SCMP_CMP_EQ`.
    pub operators: &'a [&'a str],
    /// Architectures, as `SCMP_ARCH_X86_64`.
    pub architectures: &'a [&'a str],
    /// Flags, as `SECCOMP_FILTER_FLAG_LOG`.
    pub known_flags: &'a [&'a str],
    /// Those that this kernel takes.
    pub supported_flags: &'a [&'a str],
}

/// What the runtime can do.
pub fn features(seccomp: &Seccomp<'_>) -> Features {
    let yes = Enabled { enabled: true };
    Features {
        oci_version_min: OLDEST_SPEC_VERSION.to_owned(),
        oci_version_max: SPEC_VERSION.to_owned(),
        hooks: texts(&HOOKS),
        mount_options: sorted(&mount::known_options()),
        linux: LinuxFeatures {
            namespaces: sorted(&namespace::known()),
            capabilities: texts(&capability::NAMES),
            cgroup: CgroupFeatures { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
            seccomp: SeccompFeatures {
                enabled: true,
                actions: sorted(seccomp.actions),
                operators: sorted(seccomp.operators),
                archs: sorted(seccomp.architectures),
                known_flags: sorted(seccomp.known_flags),
                supported_flags: sorted(seccomp.supported_flags),
            },
            apparmor: yes.clone(),
            selinux: yes.clone(),
            intel_rdt: IntelRdtFeatures { enabled: true, schemata: true, monitoring: true },
            memory_policy: MemoryPolicyFeatures {
                modes: sorted(&mempolicy::known_modes()),
                flags: sorted(&mempolicy::known_flags()),
            },
            mount_extensions: MountExtensions { idmap: yes.clone() },
            net_devices: yes,
        },
        annotations: annotations(),
        potentially_unsafe_config_annotations: texts(&UNSAFE_ANNOTATIONS),
    }
}

/// The document.
///
/// # Errors
/// None that can be provoked.
pub fn document(features: &Features) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(features)? + "\n")
}

fn annotations() -> BTreeMap<String, String> {
    [
        ("gantry.version", env!("CARGO_PKG_VERSION")),
        // The name by which engines ask whether there is a checkpoint at all.
        ("org.opencontainers.runc.checkpoint.enabled", "true"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn sorted(names: &[&str]) -> Vec<String> {
    let mut out = texts(names);
    out.sort_unstable();
    out.dedup();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Features {
        features(&Seccomp {
            actions: &["SCMP_ACT_B", "SCMP_ACT_A"],
            operators: &["SCMP_CMP_EQ"],
            architectures: &["SCMP_ARCH_X86_64"],
            known_flags: &["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"],
            supported_flags: &["SECCOMP_FILTER_FLAG_LOG"],
        })
    }

    #[test]
    fn documents() {
        let text = document(&sample()).unwrap();
        insta::assert_snapshot!("features", text);
        assert_eq!(serde_json::from_str::<Features>(&text).unwrap(), sample());
    }

    /// Everything that runc names, this one names too.
    #[test]
    fn covers_runc() {
        let features = sample();
        let check = |known: &[String], theirs: &str| {
            let missing: Vec<&str> = theirs.split(' ').filter(|name| !known.iter().any(|k| k == name)).collect();
            assert_eq!(missing, [""; 0]);
        };
        check(
            &features.mount_options,
            "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
             nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime \
             rbind rdev rdiratime relatime remount rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime \
             rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow \
             runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap",
        );
        check(&features.linux.namespaces, "cgroup ipc mount network pid time user uts");
        check(
            &features.linux.memory_policy.modes,
            "MPOL_BIND MPOL_DEFAULT MPOL_INTERLEAVE MPOL_LOCAL MPOL_PREFERRED MPOL_PREFERRED_MANY MPOL_WEIGHTED_INTERLEAVE",
        );
        assert_eq!(features.linux.capabilities.len(), 41);
    }
}
