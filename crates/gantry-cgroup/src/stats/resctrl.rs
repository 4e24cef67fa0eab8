//! Classes of cache and memory bandwidth (Documentation/filesystems/resctrl.rst), whose numbers are told together with those
//! of cgroups.

use std::path::Path;

use serde::Serialize;

use super::zero;
use crate::error::Error;
use crate::stats::read::{number, text};

/// A container's class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IntelRdtStats {
    /// What the L3 cache allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l3_cache_info: Option<CacheInfo>,
    /// L3 line of the root's schemata.
    #[serde(skip_serializing_if = "zero")]
    pub l3_cache_schema_root: String,
    /// L3 line of the class's schemata.
    #[serde(skip_serializing_if = "zero")]
    pub l3_cache_schema: String,
    /// What memory bandwidth allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_bw_info: Option<MemoryBandwidthInfo>,
    /// Memory bandwidth line of the root's schemata.
    #[serde(skip_serializing_if = "zero")]
    pub mem_bw_schema_root: String,
    /// Memory bandwidth line of the class's schemata.
    #[serde(skip_serializing_if = "zero")]
    pub mem_bw_schema: String,
    /// All lines of the class's schemata.
    #[serde(skip_serializing_if = "zero")]
    pub schemata: Vec<String>,
    /// Memory bandwidth by L3 domain; absent where it is not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mbm_stats: Option<Vec<MemoryBandwidth>>,
    /// Use of the L3 cache by domain; absent where it is not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmt_stats: Option<Vec<CacheOccupancy>>,
}

/// What the L3 cache allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheInfo {
    /// Mask of its parts, hexadecimal.
    #[serde(skip_serializing_if = "zero")]
    pub cbm_mask: String,
    /// Fewest bits of a mask.
    #[serde(skip_serializing_if = "zero")]
    pub min_cbm_bits: u64,
    /// Number of classes.
    #[serde(skip_serializing_if = "zero")]
    pub num_closids: u64,
}

/// What memory bandwidth allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryBandwidthInfo {
    /// Granularity, percent.
    #[serde(skip_serializing_if = "zero")]
    pub bandwidth_gran: u64,
    /// Whether the delay is linear.
    #[serde(skip_serializing_if = "zero")]
    pub delay_linear: u64,
    /// Least share, percent.
    #[serde(skip_serializing_if = "zero")]
    pub min_bandwidth: u64,
    /// Number of classes.
    #[serde(skip_serializing_if = "zero")]
    pub num_closids: u64,
}

/// Memory bandwidth of an L3 domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryBandwidth {
    /// Bytes.
    pub mbm_total_bytes: u64,
    /// Bytes within the domain.
    pub mbm_local_bytes: u64,
}

/// Use of the L3 cache of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheOccupancy {
    /// Bytes.
    pub llc_occupancy: u64,
}

impl IntelRdtStats {
    /// Reads what resctrl, mounted at `base`, says of a class, and of what is counted for the group `counted`: the
    /// container's own where it has one, else the class with all that is in it.
    pub fn read(base: &Path, class: &Path, counted: &Path) -> Result<Self, Error> {
        let lines = |dir: &Path| -> Result<Vec<String>, Error> {
            Ok(text(dir, "schemata")?.unwrap_or_default().lines().map(|line| line.trim().to_owned()).collect())
        };
        let (root, own) = (lines(base)?, lines(class)?);
        let mut out = Self::default();
        if let Some(mask) = text(&base.join("info/L3"), "cbm_mask")? {
            let read = |file: &str| Ok::<_, Error>(number(&base.join("info/L3"), file)?.unwrap_or(0));
            let cbm_mask = mask.trim().to_owned();
            let (min_cbm_bits, num_closids) = (read("min_cbm_bits")?, read("num_closids")?);
            out.l3_cache_info = Some(CacheInfo { cbm_mask, min_cbm_bits, num_closids });
            out.l3_cache_schema_root = last(&root, "L3");
            out.l3_cache_schema = last(&own, "L3");
        }
        if let Some(bandwidth_gran) = number(&base.join("info/MB"), "bandwidth_gran")? {
            let read = |file: &str| Ok::<_, Error>(number(&base.join("info/MB"), file)?.unwrap_or(0));
            let (delay_linear, min_bandwidth) = (read("delay_linear")?, read("min_bandwidth")?);
            let num_closids = read("num_closids")?;
            out.mem_bw_info = Some(MemoryBandwidthInfo { bandwidth_gran, delay_linear, min_bandwidth, num_closids });
            out.mem_bw_schema_root = last(&root, "MB");
            out.mem_bw_schema = last(&own, "MB");
        }
        out.schemata = own;
        out.monitor(base, counted)?;
        Ok(out)
    }

    fn monitor(&mut self, base: &Path, counted: &Path) -> Result<(), Error> {
        let features = text(&base.join("info/L3_MON"), "mon_features")?.unwrap_or_default();
        let has = |name: &str| features.lines().any(|line| line.trim() == name);
        let mut domains: Vec<_> = std::fs::read_dir(counted.join("mon_data"))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.is_dir())
            .collect();
        domains.sort();
        let read = |domain: &Path, file: &str| -> Result<u64, Error> {
            if has(file) { Ok(number(domain, file)?.unwrap_or(0)) } else { Ok(0) }
        };
        if has("mbm_total_bytes") || has("mbm_local_bytes") {
            let one = |dir: &std::path::PathBuf| {
                let (mbm_total_bytes, mbm_local_bytes) = (read(dir, "mbm_total_bytes")?, read(dir, "mbm_local_bytes")?);
                Ok(MemoryBandwidth { mbm_total_bytes, mbm_local_bytes })
            };
            self.mbm_stats = Some(domains.iter().map(one).collect::<Result<_, Error>>()?);
        }
        if has("llc_occupancy") {
            let one = |dir: &std::path::PathBuf| Ok(CacheOccupancy { llc_occupancy: read(dir, "llc_occupancy")? });
            self.cmt_stats = Some(domains.iter().map(one).collect::<Result<_, Error>>()?);
        }
        Ok(())
    }
}

/// The last line of a resource, as with code and data apart there are several.
fn last(lines: &[String], resource: &str) -> String {
    lines.iter().rfind(|line| line.starts_with(resource)).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let base = std::env::temp_dir().join(format!("gantry-resctrl-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = base.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("schemata", "    MB:0=100;1=100\n    L3:0=fff;1=fff\n");
        write("web/schemata", "    MB:0=50;1=70\n    L3:0=00f;1=0ff\n");
        write("info/L3/cbm_mask", "fff\n");
        write("info/L3/min_cbm_bits", "1\n");
        write("info/L3/num_closids", "16\n");
        write("info/MB/bandwidth_gran", "10\n");
        write("info/MB/delay_linear", "1\n");
        write("info/MB/min_bandwidth", "10\n");
        write("info/MB/num_closids", "8\n");
        write("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\n");
        for (domain, bytes) in [("mon_L3_00", "7\n"), ("mon_L3_01", "9\n")] {
            write(&format!("web/mon_groups/one/mon_data/{domain}/llc_occupancy"), bytes);
            write(&format!("web/mon_groups/one/mon_data/{domain}/mbm_total_bytes"), bytes);
        }
        let read = |class: &str, counted: &str| {
            let stats = IntelRdtStats::read(&base, &base.join(class), &base.join(counted)).unwrap();
            serde_json::to_string(&stats).unwrap()
        };
        assert_eq!(
            read("web", "web/mon_groups/one"),
            r#"{"l3_cache_info":{"cbm_mask":"fff","min_cbm_bits":1,"num_closids":16},"l3_cache_schema_root":"L3:0=fff;1=fff","l3_cache_schema":"L3:0=00f;1=0ff","mem_bw_info":{"bandwidth_gran":10,"delay_linear":1,"min_bandwidth":10,"num_closids":8},"mem_bw_schema_root":"MB:0=100;1=100","mem_bw_schema":"MB:0=50;1=70","schemata":["MB:0=50;1=70","L3:0=00f;1=0ff"],"mbm_stats":[{"mbm_total_bytes":7,"mbm_local_bytes":0},{"mbm_total_bytes":9,"mbm_local_bytes":0}],"cmt_stats":[{"llc_occupancy":7},{"llc_occupancy":9}]}"#
        );
        for path in ["info", "web", "schemata"] {
            let path = base.join(path);
            let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
        }
        assert_eq!(read("web", "web"), "{}");
        std::fs::remove_dir_all(&base).unwrap();
    }
}
