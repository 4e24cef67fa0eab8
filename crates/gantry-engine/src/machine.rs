//! What is so of the machine that the engine runs on, looked at once.

use std::collections::BTreeMap;

use crate::error::{Context, Result};
use crate::profiles::{self, apparmor};
use crate::spec::host;

/// What is so of a machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    /// Capabilities that containers can have.
    pub(crate) capabilities: Vec<String>,
    /// What system call filters depend on.
    pub(crate) filters: profiles::Machine,
    /// Files that tell too much.
    pub(crate) telling: Vec<String>,
    /// Kernel parameters of a network of a container's own.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// The AppArmor profile of containers, where there is AppArmor.
    pub(crate) apparmor: Option<String>,
    /// Whether there are cgroups of version 2 alone.
    pub(crate) unified: bool,
}

impl Machine {
    /// Looks at the machine, and loads the AppArmor profile if it can.
    pub(crate) fn look() -> Result<Self> {
        let apparmor = match apparmor::ensure(apparmor::NAME, &apparmor::Places::default()) {
            Ok(apparmor::Support::Loaded) => Some(apparmor::NAME.to_owned()),
            Ok(apparmor::Support::None) => None,
            Ok(apparmor::Support::NoParser) => {
                tracing::warn!("containers have no AppArmor profile: install the package apparmor, which compiles it");
                None
            }
            Err(error) => {
                tracing::warn!("containers have no AppArmor profile: {error}");
                None
            }
        };
        Ok(Self {
            capabilities: host::capabilities().context(|| "read the capabilities of this process".to_owned())?,
            filters: profiles::Machine::here(),
            telling: host::telling(),
            sysctls: host::sysctls(),
            apparmor,
            unified: std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        })
    }
}
