//! What was measured of images, as verdicts, a table, a plot and JSON.

use crate::bench::report::{median, put};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A work, and what each contestant came to in it.
#[derive(Debug)]
pub struct Row {
    pub work: String,
    pub samples: BTreeMap<String, Vec<f64>>,
}

/// What the project promises of a work.
pub struct Budget {
    pub work: &'static str,
    pub ours: &'static str,
    /// Whom ours is compared with; none: the figure itself has a bound.
    pub peer: Option<&'static str>,
    pub bound: Bound,
}

/// How far ours may be from that.
#[derive(Clone, Copy)]
pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// A budget of our program beside a peer.
pub const fn beside(work: &'static str, peer: &'static str, bound: Bound) -> Budget {
    Budget { work, ours: OURS, peer: Some(peer), bound }
}

const fn memory(work: &'static str, ours: &'static str) -> Budget {
    Budget { work, ours, peer: None, bound: Bound::AtMost(64.0) }
}

/// Our program.
const OURS: &str = "gantry";

/// What is promised of images.
pub const BUDGETS: &[Budget] = &[
    beside("pull 231 MB, s", "docker", Bound::AtMost(0.25)),
    beside("pull 500 MB, s", "docker", Bound::AtMost(0.25)),
    beside("push 231 MB, s", "docker", Bound::AtMost(0.25)),
    beside("push 500 MB, s", "docker", Bound::AtMost(0.25)),
    Budget { work: "push 231 MB, s", ours: "gantry, compressing", peer: Some("docker"), bound: Bound::AtMost(0.25) },
    // Like beside like: tar takes no digest, and we never unpack for keeps without one.
    Budget { work: "unpack, MB/s per core", ours: "gantry, no digest", peer: Some("tar"), bound: Bound::AtLeast(0.9) },
    beside("unpack, MB/s per core", "tar+sha256sum", Bound::AtLeast(0.9)),
    memory("pull 231 MB, peak MB", OURS),
    memory("pull 500 MB, peak MB", OURS),
    memory("push 500 MB, peak MB", OURS),
    memory("push 231 MB, peak MB", "gantry, compressing"),
    beside("GET of 1 MB blobs, requests/s", "docker-registry", Bound::AtLeast(2.0)),
    beside("registry's peak memory, MB", "docker-registry", Bound::AtMost(0.5)),
];

/// A budget, held against what was measured.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    pub text: String,
    pub value: f64,
    pub met: bool,
}

impl Row {
    fn median(&self, contestant: &str) -> Option<f64> {
        self.samples.get(contestant).map(|values| median(values))
    }

    /// The contestants, ours first.
    fn contestants(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.samples.keys().map(String::as_str).collect();
        names.sort_by_key(|name| (!name.starts_with(OURS), *name));
        names
    }
}

/// Reads the line that the measurement prints.
pub fn rows(line: &str) -> Result<Vec<Row>> {
    let works: BTreeMap<String, BTreeMap<String, Vec<f64>>> =
        serde_json::from_str(line).context("read the measurement")?;
    Ok(works.into_iter().map(|(work, samples)| Row { work, samples }).collect())
}

/// Every budget that can be held against what was measured.
pub fn verdicts(rows: &[Row], budgets: &[Budget]) -> Vec<Verdict> {
    let held = budgets.iter().filter_map(|budget| {
        let row = rows.iter().find(|row| row.work == budget.work)?;
        let own = row.median(budget.ours)?;
        let (value, unit) = match budget.peer {
            Some(peer) => (own / row.median(peer)?, format!(" x {peer}")),
            None => (own, String::new()),
        };
        let (met, bound) = match budget.bound {
            Bound::AtMost(limit) => (value <= limit, format!("at most {limit}")),
            Bound::AtLeast(limit) => (value >= limit, format!("at least {limit}")),
        };
        let text = format!("{}, {}: {value:.2}{unit}, {bound}", budget.work, budget.ours);
        Some(Verdict { text, value, met })
    });
    held.collect()
}

/// The table for people.
pub fn table(rows: &[Row], verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for row in rows {
        put(&mut text, format_args!("\n{}\n", row.work));
        let own = row.median(OURS);
        for name in row.contestants() {
            let value = row.median(name).unwrap_or(f64::NAN);
            put(&mut text, format_args!("  {name:<24}{value:>12.2}"));
            if let Some(own) = own.filter(|_| name != OURS) {
                put(&mut text, format_args!("   gantry is {:.2} x", own / value));
            }
            text.push('\n');
        }
    }
    text.push('\n');
    for Verdict { text: budget, met, .. } in verdicts {
        put(&mut text, format_args!("budget {}: {budget}\n", if *met { "met" } else { "MISSED" }));
    }
    text
}

/// Everything, for programs.
pub fn json(rows: &[Row], verdicts: &[Verdict]) -> Result<String> {
    let row = |row: &Row| {
        let medians: BTreeMap<&str, f64> =
            row.samples.iter().map(|(name, values)| (name.as_str(), median(values))).collect();
        json!({ "work": row.work, "median": medians, "samples": row.samples })
    };
    let verdict = |one: &Verdict| json!({ "budget": one.text, "value": one.value, "met": one.met });
    let rows: Vec<Value> = rows.iter().map(row).collect();
    let verdicts: Vec<Value> = verdicts.iter().map(verdict).collect();
    Ok(serde_json::to_string_pretty(&json!({ "rows": rows, "budgets": verdicts }))? + "\n")
}

/// Bars of the medians: a group for each work, in its own scale.
pub fn svg(rows: &[Row]) -> String {
    const STEP: usize = 18;
    let (mut body, mut y) = (String::new(), 10);
    for row in rows {
        y += 22;
        put(&mut body, format_args!("<text x='10' y='{y}' font-weight='bold'>{}</text>\n", row.work));
        y += 6;
        let names = row.contestants();
        let highest = names.iter().filter_map(|name| row.median(name)).fold(f64::MIN_POSITIVE, f64::max);
        for name in names {
            let value = row.median(name).unwrap_or_default();
            let colour = if name.starts_with(OURS) { "#2b6cb0" } else { "#a0aec0" };
            let (width, middle) = (value / highest * 400.0, y + 13);
            put(
                &mut body,
                format_args!(
                    "<text x='10' y='{middle}'>{name}</text><rect x='180' y='{y}' width='{width:.1}' height='14' \
                     fill='{colour}'/><text x='{:.1}' y='{middle}'>{value:.2}</text>\n",
                    width + 186.0
                ),
            );
            y += STEP;
        }
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='740' height='{}' font-family='sans-serif' font-size='12'>\n\
         <rect width='100%' height='100%' fill='white'/>\n{body}</svg>\n",
        y + 10
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"pull 231 MB, s":{"gantry":[1,3,2],"docker":[10]},
        "pull 231 MB, peak MB":{"gantry":[70]}, "GET of 1 MB blobs, requests/s":{"gantry":[500],"docker-registry":[200]}}"#;

    #[test]
    fn each_budget_is_held_where_it_was_measured() {
        let told: Vec<(String, bool)> =
            verdicts(&rows(LINE).unwrap(), BUDGETS).into_iter().map(|one| (one.text, one.met)).collect();
        let expect = [
            ("pull 231 MB, s, gantry: 0.20 x docker, at most 0.25", true),
            ("pull 231 MB, peak MB, gantry: 70.00, at most 64", false),
            ("GET of 1 MB blobs, requests/s, gantry: 2.50 x docker-registry, at least 2", true),
        ];
        assert_eq!(told, expect.map(|(text, met)| (text.to_owned(), met)));
    }

    #[test]
    fn the_table_and_the_plot_name_everyone() {
        let rows = rows(LINE).unwrap();
        let (table, plot) = (table(&rows, &verdicts(&rows, BUDGETS)), svg(&rows));
        for name in ["gantry", "docker", "docker-registry"] {
            assert!(table.contains(name) && plot.contains(name), "{name}");
        }
        assert!(table.contains("budget MISSED: pull 231 MB, peak MB"), "{table}");
        assert!(json(&rows, &[]).unwrap().contains("\"samples\""));
    }
}
