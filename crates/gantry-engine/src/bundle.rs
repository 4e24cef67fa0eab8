//! From the record of a container to the settings that the runtime's configuration is made of. Pure.

use gantry_model::oci::spec::User;

use crate::container::Record;
use crate::error::{Error, Result};
use crate::merge;
use crate::request::Sharing;
use crate::settings::{Namespace, Namespaces, Security, Settings};
use crate::spec::options;

/// What is found out when a container is started.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// Who it runs as.
    pub(crate) user: User,
    /// Its home, if nothing else is said.
    pub(crate) home: String,
    /// The network namespace.
    pub(crate) network: Namespace,
    /// The namespaces of others that it joins.
    pub(crate) ipc: Namespace,
    /// Process ids.
    pub(crate) pid: Namespace,
    /// Host name.
    pub(crate) uts: Namespace,
    /// Whether there are cgroups of version 2 alone.
    pub(crate) unified: bool,
}

/// The settings of a container.
pub(crate) fn settings(record: &Record, found: &Found) -> Result<Settings> {
    let (config, host) = (&record.config, &record.host);
    let mut env = config.env.clone();
    if !found.home.is_empty() && !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={}", found.home));
    }
    let mut security = Security {
        privileged: host.privileged,
        cap_add: host.cap_add.clone(),
        cap_drop: host.cap_drop.clone(),
        ..Security::default()
    };
    options::security(&host.security)?.apply(&mut security);
    security.masked_paths = host.masked_paths.clone().or(security.masked_paths);
    security.readonly_paths = host.readonly_paths.clone().or(security.readonly_paths);
    if !host.storage.is_empty() {
        return Err(Error::Unsupported("storage options are not to be had: overlayfs has no quotas here".to_owned()));
    }
    let rules = host.device_rules.iter().map(|text| options::device_rule(text)).collect::<Result<_, _>>()?;
    Ok(Settings {
        args: merge::words(config),
        env,
        working_dir: config.working_dir.clone(),
        user: found.user.clone(),
        terminal: config.terminal,
        init: host.init,
        rlimits: host.ulimits.clone(),
        oom_score_adj: host.oom_score_adj,
        security,
        namespaces: Namespaces {
            network: found.network.clone(),
            ipc: found.ipc.clone(),
            uts: found.uts.clone(),
            pid: found.pid.clone(),
            cgroup: options::cgroup_namespace(host.cgroup_namespace.as_ref(), found.unified),
        },
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        sysctls: host.sysctls.clone(),
        shm_size: host.shm_size,
        no_shm: host.ipc == Sharing::None,
        device_rules: rules,
        readonly_root: host.readonly_root,
        resources: host.resources.clone(),
        annotations: host.annotations.clone(),
        ..Settings::default()
    })
}
