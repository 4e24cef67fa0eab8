//! What a change of limits leaves open, and half of which is needed to express the other half.

use gantry_model::oci::linux::{Cpu, Memory, Resources};

use crate::error::Error;
use crate::io;
use crate::limits::set;
use crate::location::Location;

impl Location {
    /// Resources for an update, in which what belongs together is together: the half that is not asked for is as it is
    /// now. Cgroup v2 limits swap alone, where the specification counts memory in; systemd knows quotas for a second,
    /// which come of quota and period.
    pub fn complete(&self, resources: &Resources) -> Result<Resources, Error> {
        let mut out = resources.clone();
        if let Some(memory) = &mut out.memory {
            self.complete_memory(memory)?;
        }
        if let (Some(cpu), true) = (&mut out.cpu, self.unit.is_some()) {
            self.complete_quota(cpu)?;
        }
        Ok(out)
    }

    fn complete_memory(&self, memory: &mut Memory) -> Result<(), Error> {
        let swap_alone = set(memory.limit).is_none() && memory.swap.is_some_and(|n| n > 0);
        let (None, Some(dir), true) = (self.v1_dir("memory"), self.unified_dir(), swap_alone) else { return Ok(()) };
        if let Some(text) = io::read_if_there(&dir.join("memory.max"))? {
            memory.limit = Some(limit(text.trim()));
        }
        Ok(())
    }

    fn complete_quota(&self, cpu: &mut Cpu) -> Result<(), Error> {
        let (quota, period) = (cpu.quota.filter(|n| *n != 0), cpu.period.filter(|n| *n != 0));
        if quota.is_some() == period.is_some() {
            return Ok(());
        }
        let text = match (self.v1_dir("cpu"), self.unified_dir()) {
            (Some(dir), _) => {
                let read = |file: &str| Ok::<_, Error>(io::read_if_there(&dir.join(file))?.unwrap_or_default());
                format!("{} {}", read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?.trim())
            }
            (None, Some(dir)) => io::read_if_there(&dir.join("cpu.max"))?.unwrap_or_default(),
            (None, None) => return Ok(()),
        };
        if let Some((now_quota, now_period)) = text.trim().split_once(' ') {
            cpu.quota = quota.or(Some(limit(now_quota)));
            cpu.period = period.or_else(|| now_period.parse().ok());
        }
        Ok(())
    }
}

/// A limit of a file, in the form of the specification: -1 is none.
fn limit(text: &str) -> i64 {
    text.parse().unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::UnitRef;
    use crate::step::Bus;

    #[test]
    fn halves() {
        let dir = std::env::temp_dir().join(format!("gantry-present-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let unit = Some(UnitRef { name: "x.scope".into(), bus: Bus::System });
        let location = Location { unit, ..Location::unified_at(dir.to_str().unwrap()) };
        let check = |files: &[(&str, &str)], asked: &str, expect: &str| {
            for (name, text) in files {
                std::fs::write(dir.join(name), text).unwrap();
            }
            let read = |text: &str| serde_json::from_str::<Resources>(text).unwrap();
            assert_eq!(location.complete(&read(asked)).unwrap(), read(expect), "{asked}");
        };
        let files = [("memory.max", "max\n"), ("cpu.max", "max 100000\n")];
        check(&files, r#"{"memory":{"swap":9}}"#, r#"{"memory":{"swap":9,"limit":-1}}"#);
        check(&files, r#"{"cpu":{"quota":5000}}"#, r#"{"cpu":{"quota":5000,"period":100000}}"#);
        check(&files, r#"{"cpu":{"period":7}}"#, r#"{"cpu":{"quota":-1,"period":7}}"#);
        let files = [("memory.max", "4096\n"), ("cpu.max", "20000 50000\n")];
        check(&files, r#"{"memory":{"swap":9000}}"#, r#"{"memory":{"swap":9000,"limit":4096}}"#);
        check(&files, r#"{"memory":{"swap":-1}}"#, r#"{"memory":{"swap":-1}}"#);
        check(&files, r#"{"memory":{"limit":1,"swap":2}}"#, r#"{"memory":{"limit":1,"swap":2}}"#);
        check(&files, r#"{"cpu":{"period":7,"quota":0}}"#, r#"{"cpu":{"quota":20000,"period":7}}"#);
        check(&files, r#"{"cpu":{"idle":1}}"#, r#"{"cpu":{"idle":1}}"#);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
