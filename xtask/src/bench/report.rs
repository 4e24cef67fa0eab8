//! What was measured, as verdicts, a table, a plot and JSON. All of it is text made from data.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What was measured on one arrangement of cgroups.
#[derive(Debug, Default)]
pub struct Scene {
    pub name: String,
    /// Median milliseconds per work and contestant.
    pub medians: BTreeMap<String, BTreeMap<String, f64>>,
    /// Every sample, in the order taken.
    pub samples: Value,
    /// Peak memory of each contestant, in kilobytes.
    pub memory: BTreeMap<String, f64>,
}

/// A budget: ours at most `limit` times the peer.
struct Budget {
    work: &'static str,
    peer: &'static str,
    limit: f64,
}

/// The row of a peak in memory, beside the works that take time.
const MEMORY: &str = "peak memory";

/// What the project promises. A budget counts where its peer took part; that of runc where crun could not.
const BUDGETS: &[Budget] = &[
    Budget { work: "run", peer: "crun", limit: 0.5 },
    Budget { work: "run", peer: "runc", limit: 0.15 },
    Budget { work: MEMORY, peer: "crun", limit: 1.0 },
];

/// A budget, held against what was measured.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    pub scene: String,
    pub work: String,
    pub peer: String,
    pub ratio: f64,
    pub limit: f64,
    pub met: bool,
}

impl Scene {
    /// Reads the line that the measurement prints.
    pub fn from_json(name: &str, line: &str) -> Result<Self> {
        let measured: Value = serde_json::from_str(line).context("read the measurement")?;
        let samples = measured["milliseconds"].clone();
        let works: BTreeMap<String, BTreeMap<String, Vec<f64>>> = serde_json::from_value(samples.clone())?;
        let of_work = |works: BTreeMap<String, Vec<f64>>| works.into_iter().map(|(k, v)| (k, median(&v))).collect();
        Ok(Self {
            name: name.to_owned(),
            medians: works.into_iter().map(|(work, by_name)| (work, of_work(by_name))).collect(),
            samples,
            memory: serde_json::from_value(measured["peak_kilobytes"].clone())?,
        })
    }

    fn row(&self, work: &str) -> Option<&BTreeMap<String, f64>> {
        if work == MEMORY { Some(&self.memory) } else { self.medians.get(work) }
    }

    fn ratio(&self, work: &str, peer: &str) -> Option<f64> {
        let row = self.row(work)?;
        Some(row.get("gantry-oci")? / row.get(peer)?)
    }
}

/// The middle value, or the mean of the two in the middle; of nothing, not a number.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Every budget that can be held against what was measured.
pub fn verdicts(scenes: &[Scene]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for scene in scenes {
        let crun_took_part = scene.memory.contains_key("crun");
        for budget in BUDGETS.iter().filter(|budget| (budget.peer == "crun") == crun_took_part) {
            let Some(ratio) = scene.ratio(budget.work, budget.peer) else { continue };
            verdicts.push(Verdict {
                scene: scene.name.clone(),
                work: budget.work.into(),
                peer: budget.peer.into(),
                ratio,
                limit: budget.limit,
                met: ratio <= budget.limit,
            });
        }
    }
    verdicts
}

/// Appends to a text. Writing into a string cannot fail.
pub fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
}

/// The contestants of a scene, ours first.
fn contestants(scene: &Scene) -> Vec<&str> {
    let mut names: Vec<&str> = scene.memory.keys().map(String::as_str).collect();
    names.sort_by_key(|name| (*name != "gantry-oci", *name));
    names
}

fn works(scene: &Scene) -> impl Iterator<Item = &str> {
    let order = ["run", "create+start+delete", "exec", MEMORY];
    order.into_iter().filter(|work| scene.row(work).is_some())
}

/// The table for people.
pub fn table(scenes: &[Scene], verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for scene in scenes {
        let names = contestants(scene);
        put(&mut text, format_args!("\n{}\n  {:<24}", scene.name, ""));
        let peers = names[1..].iter().map(|name| format!("/ {name}"));
        for heading in names.iter().map(|&name| name.to_owned()).chain(peers) {
            put(&mut text, format_args!("{heading:>14}"));
        }
        for work in works(scene) {
            let unit = if work == MEMORY { "kB" } else { "ms" };
            put(&mut text, format_args!("\n  {:<24}", format!("{work}, {unit}")));
            for name in &names {
                let value = scene.row(work).and_then(|row| row.get(*name)).copied().unwrap_or(f64::NAN);
                let digits = usize::from(work != MEMORY) * 2;
                put(&mut text, format_args!("{value:>14.digits$}"));
            }
            for peer in &names[1..] {
                let ratio = scene.ratio(work, peer).unwrap_or(f64::NAN);
                put(&mut text, format_args!("{ratio:>14.2}"));
            }
        }
        text.push('\n');
    }
    text.push('\n');
    for Verdict { scene, work, peer, ratio, limit, met } in verdicts {
        let word = if *met { "met" } else { "MISSED" };
        put(&mut text, format_args!("budget {word}: {work}, {scene}: {ratio:.2} x {peer}, at most {limit}\n"));
    }
    text
}

/// Everything, for programs.
pub fn json(scenes: &[Scene], verdicts: &[Verdict]) -> Result<String> {
    let scenes: Vec<Value> = scenes
        .iter()
        .map(|scene| {
            json!({ "cgroups": scene.name, "median_milliseconds": scene.medians, "peak_kilobytes": scene.memory,
                    "samples_milliseconds": scene.samples })
        })
        .collect();
    let verdicts: Vec<Value> = verdicts
        .iter()
        .map(|v| {
            json!({ "cgroups": v.scene, "work": v.work, "peer": v.peer, "ratio": v.ratio, "limit": v.limit,
                    "met": v.met })
        })
        .collect();
    Ok(serde_json::to_string_pretty(&json!({ "scenes": scenes, "budgets": verdicts }))? + "\n")
}

/// Bars of the medians: a panel for each scene, a group for each work.
pub fn svg(scenes: &[Scene]) -> String {
    const ROW: usize = 18;
    let (mut body, mut y) = (String::new(), 10);
    let bars = |scene: &Scene| works(scene).filter(|work| *work != MEMORY).map(str::to_owned).collect::<Vec<_>>();
    for scene in scenes {
        y += 20;
        put(
            &mut body,
            format_args!("<text x='10' y='{y}' font-weight='bold'>{}, median milliseconds</text>\n", scene.name),
        );
        let highest = scene.medians.values().flat_map(BTreeMap::values).fold(1.0_f64, |a, &b| a.max(b));
        for work in bars(scene) {
            y += 10;
            for (index, name) in contestants(scene).into_iter().enumerate() {
                let Some(value) = scene.medians.get(&work).and_then(|row| row.get(name)) else { continue };
                let label = if index == 0 { work.as_str() } else { "" };
                let colour = ["#2b6cb0", "#a0aec0", "#cbd5e0"].get(index).unwrap_or(&"#e2e8f0");
                let (width, middle) = (value / highest * 400.0, y + 13);
                put(
                    &mut body,
                    format_args!(
                        "<text x='10' y='{middle}'>{label}</text><rect x='180' y='{y}' width='{width:.1}' height='14' \
                     fill='{colour}'/><text x='{:.1}' y='{middle}'>{name} {value:.2}</text>\n",
                        width + 186.0
                    ),
                );
                y += ROW;
            }
        }
        y += 10;
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

    const V2: &str = r#"{"milliseconds":{"run":{"gantry-oci":[3,5,4],"crun":[8,8],"runc":[40]},
        "exec":{"gantry-oci":[2],"crun":[4],"runc":[30]}},"peak_kilobytes":{"gantry-oci":1500,"crun":3000,"runc":9000}}"#;
    const HYBRID: &str = r#"{"milliseconds":{"run":{"gantry-oci":[8],"runc":[40]}},
        "peak_kilobytes":{"gantry-oci":1500,"runc":9000}}"#;

    #[test]
    fn medians() {
        for (values, expect) in [(vec![3.0], 3.0), (vec![5.0, 1.0, 3.0], 3.0), (vec![4.0, 1.0, 3.0, 2.0], 2.5)] {
            assert!((median(&values) - expect).abs() < 1e-9, "{values:?}");
        }
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn each_budget_is_held_where_its_peer_took_part() {
        let scenes = [Scene::from_json("hybrid", HYBRID).unwrap(), Scene::from_json("v2", V2).unwrap()];
        let verdicts = verdicts(&scenes);
        let told: Vec<_> =
            verdicts.iter().map(|v| (v.scene.as_str(), v.work.as_str(), v.peer.as_str(), v.met)).collect();
        let expect = [("hybrid", "run", "runc", false), ("v2", "run", "crun", true), ("v2", MEMORY, "crun", true)];
        assert_eq!(told, expect);
    }

    #[test]
    fn the_table_and_the_plot_name_everyone() {
        let scenes = [Scene::from_json("v2", V2).unwrap()];
        let table = table(&scenes, &verdicts(&scenes));
        assert!(table.contains("budget met: run, v2: 0.50 x crun, at most 0.5"), "{table}");
        let plot = svg(&scenes);
        for name in ["gantry-oci", "runc", "crun"] {
            assert!(table.contains(name) && plot.contains(name), "{name}");
        }
        assert!(json(&scenes, &[]).unwrap().contains("\"peak_kilobytes\""));
    }
}
