//! Which devices a request means: by name, or the graphics processors of whichever vendor the host has.

use super::{Error, Registry};
use crate::request::DeviceRequest;

/// Vendors of graphics processors: what drivers they are asked for by, and what these can do.
const VENDORS: [(&str, &str, &[&str], &[&str]); 2] = [
    (
        "nvidia.com/gpu",
        "nvidia",
        &["nvidia", "nvidia.cdi"],
        &["gpu", "nvidia", "compute", "compat32", "graphics", "utility", "video", "display"],
    ),
    ("amd.com/gpu", "amd", &["amd"], &["gpu", "amd"]),
];

/// How many devices can be asked for by number.
const MAX_COUNT: i64 = 4096;

impl Registry {
    /// The full names of the devices that a request means.
    ///
    /// # Errors
    /// Nothing on this host serves it, or it makes no sense.
    pub fn resolve(&self, request: &DeviceRequest) -> Result<Vec<String>, Error> {
        if request.driver == "cdi" {
            if request.count != 0 {
                return Err(Error::Request("unexpected count in CDI device request"));
            }
            if !request.options.is_empty() {
                return Err(Error::Request("unexpected options in CDI device request"));
            }
            return Ok(request.ids.clone());
        }
        let can =
            |able: &[&str]| request.capabilities.iter().any(|all| all.iter().all(|one| able.contains(&one.as_str())));
        let vendor = VENDORS.iter().find(|(kind, _, drivers, able)| {
            let fits = if request.driver.is_empty() { can(able) } else { drivers.contains(&request.driver.as_str()) };
            fits && self.has_kind(kind)
        });
        let Some((kind, ..)) = vendor else {
            let lists: Vec<String> = request.capabilities.iter().map(|list| format!("[{}]", list.join(" "))).collect();
            let capabilities = format!("[{}]", lists.join(" "));
            return Err(Error::Driver { driver: request.driver.clone(), capabilities });
        };
        if request.count != 0 && !request.ids.is_empty() {
            return Err(Error::Request("cannot set both Count and DeviceIDs on device request"));
        }
        let ids = match request.count {
            0 => request.ids.clone(),
            ..0 => vec!["all".to_owned()],
            count if count <= MAX_COUNT => (0..count).map(|number| number.to_string()).collect(),
            _ => return Err(Error::Request("too many devices are asked for")),
        };
        Ok(ids.into_iter().map(|id| if id.contains('=') { id } else { format!("{kind}={id}") }).collect())
    }
}
