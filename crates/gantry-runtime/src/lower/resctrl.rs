//! Classes of cache and memory bandwidth (config-linux.md, IntelRdt).

use super::{Builder, Context};
use crate::error::{Error, Result};
use crate::step::{Action, Resctrl};

impl Context<'_> {
    /// Classes of cache and memory bandwidth (config-linux.md, IntelRdt): the group is made before the process, which
    /// is then moved into it.
    pub(super) fn resctrl(&self, b: &mut Builder, before: bool) -> Result<()> {
        let Some(rdt) = &self.linux.intel_rdt else { return Ok(()) };
        let Some(base) = &self.input.host.resctrl else {
            return Err(Error::config("linux.intelRdt", "resctrl is not mounted on this host"));
        };
        let class = if rdt.clos_id.is_empty() { self.input.id.as_str() } else { &rdt.clos_id };
        if class.contains('/') && class != "/" || class == "." || class == ".." || class.contains('\0') {
            return Err(Error::config("linux.intelRdt.closID", format!("{class:?} is no name of a directory")));
        }
        let path = if class == "/" { base.clone() } else { format!("{base}/{class}") };
        let monitor = format!("{path}/mon_groups/{}", self.input.id);
        if !before {
            b.runtime(Action::Resctrl(Resctrl::Join { path: path.clone() }));
            if rdt.enable_monitoring {
                b.runtime(Action::Resctrl(Resctrl::Join { path: monitor }));
            }
            return Ok(());
        }
        let lines = [&rdt.l3_cache_schema, &rdt.mem_bw_schema].into_iter().filter(|line| !line.is_empty());
        let lines: Vec<String> = lines.chain(&rdt.schemata).cloned().collect();
        b.runtime(Action::Resctrl(Resctrl::MakeGroup { path: path.clone() }));
        if !lines.is_empty() {
            b.runtime(Action::Resctrl(Resctrl::Schemata { path: path.clone(), lines }));
        }
        if rdt.enable_monitoring {
            b.runtime(Action::Resctrl(Resctrl::MakeGroup { path: monitor }));
        }
        Ok(())
    }
}
