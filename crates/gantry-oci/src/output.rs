//! What commands write to stdout: listings, states, statistics, as people and programs know them from runc.
//!
//! Everything here turns data into text; only [`ps`] starts a program.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::process::{Command, Stdio};

use gantry_cgroup::Stats;
use gantry_model::oci::state::Status;
use serde::Serialize;

/// A container as `list` and `state` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContainerRow {
    /// Version of the specification that its configuration follows.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    /// Its identifier.
    pub id: String,
    /// Its init process, 0 if that has ended.
    pub pid: i32,
    /// Where it is in its life.
    pub status: Status,
    /// Absolute path of the bundle.
    pub bundle: String,
    /// Absolute path of the root file system.
    pub rootfs: String,
    /// When it was created, RFC 3339 with nanoseconds.
    pub created: String,
    /// Annotations of its configuration.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Whom it belongs to: a name, or `#` and the number of a user without one. Empty in `state`.
    pub owner: String,
}

/// The table of `list`.
pub fn list_table(rows: &[ContainerRow]) -> String {
    let mut cells = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    for row in rows {
        cells.push([
            row.id.clone(),
            row.pid.to_string(),
            row.status.to_string(),
            row.bundle.clone(),
            row.created.clone(),
            row.owner.clone(),
        ]);
    }
    table(&cells)
}

/// Columns of at least twelve characters, with three spaces between; the last one is not filled up.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    const LEAST: usize = 12;
    const GAP: usize = 3;
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count() + GAP).max().unwrap_or(0).max(LEAST);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = if column + 1 == N { 0 } else { widths[column] };
            // A path may hold anything, and must not become another row or column of what a terminal shows.
            let _ = write!(out, "{:<width$}", cell.replace(char::is_control, "?"));
        }
        out.push('\n');
    }
    out
}

/// The names of `list -q`, one a line.
pub fn list_quiet(rows: &[ContainerRow]) -> String {
    rows.iter().fold(String::new(), |out, row| out + &row.id + "\n")
}

/// The list of `list --format json`.
///
/// # Errors
/// None that can be provoked.
pub fn list_json(rows: &[ContainerRow]) -> serde_json::Result<String> {
    Ok(serde_json::to_string(rows)? + "\n")
}

/// The document of `state`.
///
/// # Errors
/// None that can be provoked.
pub fn state(row: &ContainerRow) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(row)? + "\n")
}

/// The list of `ps --format json`.
///
/// # Errors
/// None that can be provoked.
pub fn ps_json(pids: &[i32]) -> serde_json::Result<String> {
    Ok(serde_json::to_string(pids)? + "\n")
}

/// Why there is no table of processes.
#[derive(Debug, thiserror::Error)]
pub enum PsError {
    /// ps(1) cannot be started.
    #[error("start ps: {0}")]
    Start(#[source] io::Error),
    /// ps(1) failed; what it said.
    #[error("ps {args}: {status}: {said}")]
    Failed {
        /// Its arguments.
        args: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote to stderr.
        said: String,
    },
    /// Its first line has no column PID.
    #[error("ps {0}: no column PID in its output; ask for it, as with -o pid")]
    NoColumn(String),
    /// A line has no number in that column.
    #[error("ps: no process id in the line {0:?}")]
    NoPid(String),
}

/// The table of `ps`: what ps(1) writes with these arguments, or with `-ef`, of these processes alone.
///
/// # Errors
/// As [`PsError`] names them.
pub fn ps(args: &[OsString], pids: &[i32]) -> Result<String, PsError> {
    let usual = [OsString::from("-ef")];
    let args = if args.is_empty() { &usual } else { args };
    let output = Command::new("ps").args(args).stdin(Stdio::null()).output().map_err(PsError::Start)?;
    let shown = args.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ");
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim_end().chars().take(1000).collect();
        return Err(PsError::Failed { args: shown, status: output.status, said });
    }
    filter(&String::from_utf8_lossy(&output.stdout), pids, &shown)
}

/// The first line, and those whose process is among `pids`.
fn filter(table: &str, pids: &[i32], args: &str) -> Result<String, PsError> {
    let mut lines = table.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| PsError::NoColumn(args.to_owned()))?;
    let mut out = format!("{head}\n");
    for line in lines.filter(|l| !l.trim().is_empty()) {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        let pid: i32 = pid.ok_or_else(|| PsError::NoPid(line.chars().take(200).collect()))?;
        if pids.contains(&pid) {
            out.push_str(line);
            out.push('\n');
        }
    }
    Ok(out)
}

/// What `events` tells of.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// Statistics.
    Stats(&'a Stats),
    /// The kernel killed a process for want of memory.
    OutOfMemory,
}

/// A line of `events`.
///
/// # Errors
/// None that can be provoked.
pub fn event(id: &str, event: &Event<'_>) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a Stats>,
    }
    let line = match event {
        Event::Stats(stats) => Line { kind: "stats", id, data: Some(stats) },
        Event::OutOfMemory => Line { kind: "oom", id, data: None },
    };
    Ok(serde_json::to_string(&line)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, pid: i32, status: Status, bundle: &str) -> ContainerRow {
        ContainerRow {
            oci_version: "1.3.0".to_owned(),
            id: id.to_owned(),
            pid,
            status,
            bundle: bundle.to_owned(),
            rootfs: format!("{bundle}/rootfs"),
            created: "2026-11-22T03:04:05.123456789Z".to_owned(),
            annotations: BTreeMap::new(),
            owner: "root".to_owned(),
        }
    }

    #[test]
    fn tables() {
        let rows = [
            row("web", 4711, Status::Running, "/bundles/web"),
            row("a-longer-name", 0, Status::Stopped, "/b\n\u{1b}é"),
        ];
        insta::assert_snapshot!(list_table(&rows), @r"
        ID              PID         STATUS      BUNDLE         CREATED                          OWNER
        web             4711        running     /bundles/web   2026-11-22T03:04:05.123456789Z   root
        a-longer-name   0           stopped     /b??é          2026-11-22T03:04:05.123456789Z   root
        ");
        insta::assert_snapshot!(list_table(&[]), @"ID          PID         STATUS      BUNDLE      CREATED     OWNER");
        assert_eq!(list_quiet(&rows), "web\na-longer-name\n");
    }

    #[test]
    fn documents() {
        let mut web = row("web", 4711, Status::Running, "/b");
        web.annotations.insert("a".to_owned(), "b".to_owned());
        insta::assert_snapshot!(state(&web).unwrap(), @r#"
        {
          "ociVersion": "1.3.0",
          "id": "web",
          "pid": 4711,
          "status": "running",
          "bundle": "/b",
          "rootfs": "/b/rootfs",
          "created": "2026-11-22T03:04:05.123456789Z",
          "annotations": {
            "a": "b"
          },
          "owner": "root"
        }
        "#);
        insta::assert_snapshot!(
            list_json(&[web, row("x", 0, Status::Created, "/x")]).unwrap(),
            @r#"[{"ociVersion":"1.3.0","id":"web","pid":4711,"status":"running","bundle":"/b","rootfs":"/b/rootfs","created":"2026-11-22T03:04:05.123456789Z","annotations":{"a":"b"},"owner":"root"},{"ociVersion":"1.3.0","id":"x","pid":0,"status":"created","bundle":"/x","rootfs":"/x/rootfs","created":"2026-11-22T03:04:05.123456789Z","owner":"root"}]"#
        );
        assert_eq!(list_json(&[]).unwrap(), "[]\n");
        assert_eq!(ps_json(&[1, 22]).unwrap(), "[1,22]\n");
    }

    #[test]
    fn processes() {
        let check = |table: &str, expect: Result<&str, &str>| {
            let got = filter(table, &[7, 70], "-x").map_err(|e| e.to_string());
            assert_eq!(got.as_deref().map_err(String::as_str), expect, "{table:?}");
        };
        check("UID  PID CMD\nroot   7 a\nroot   8 7\n\nroot  70 c d\n", Ok("UID  PID CMD\nroot   7 a\nroot  70 c d\n"));
        check("PID\n  7\n", Ok("PID\n  7\n"));
        check("CMD\n7\n", Err("ps -x: no column PID in its output; ask for it, as with -o pid"));
        check("", Err("ps -x: no column PID in its output; ask for it, as with -o pid"));
        check("UID PID\nroot\n", Err(r#"ps: no process id in the line "root""#));
        check("UID PID\nroot x\n", Err(r#"ps: no process id in the line "root x""#));
    }

    #[test]
    fn ps_of_this_process() {
        let pid = std::process::id() as i32;
        let check = |args: &[&str]| ps(&args.iter().map(OsString::from).collect::<Vec<_>>(), &[pid]);
        match check(&[]) {
            Err(PsError::Start(error)) => return crate::skipped(&format!("no ps on this host: {error}")),
            table => assert_eq!(table.unwrap().lines().count(), 2),
        }
        assert_eq!(
            check(&["-e", "-o", "pid"]).unwrap().split_whitespace().collect::<Vec<_>>(),
            ["PID", &pid.to_string()]
        );
        assert!(matches!(check(&["-e", "-o", "comm"]), Err(PsError::NoColumn(_))));
        assert!(matches!(check(&["--no-such-option"]), Err(PsError::Failed { said, .. }) if !said.is_empty()));
    }

    #[test]
    fn events() {
        assert_eq!(event("web", &Event::OutOfMemory).unwrap(), "{\"type\":\"oom\",\"id\":\"web\"}\n");
        insta::assert_snapshot!(
            event("web", &Event::Stats(&Stats::default())).unwrap(),
            @r#"{"type":"stats","id":"web","data":{"cpu":{},"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},"memory":{},"pids":{},"blkio":{},"hugetlb":{},"intel_rdt":{},"network_interfaces":null}}"#
        );
    }
}
