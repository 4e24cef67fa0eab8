//! Load for limits to hold: processor time, memory, processes.

use std::io::{self, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::attempt;

/// Keeps a processor busy for a while, and says how much processor time came of it, both in nanoseconds.
pub fn spin(wall: Duration) -> Value {
    let used = || {
        let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
        text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok())
    };
    let (begun, before) = (Instant::now(), used());
    let mut value = 1_u64;
    while begun.elapsed() < wall {
        for step in 0..10_000_u64 {
            value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
        }
    }
    let cpu = used().zip(before).map(|(after, before)| after - before);
    json!({ "wall": begun.elapsed().as_nanos() as u64, "cpu": cpu, "value": value & 1 })
}

/// Fills so many mebibytes of memory, saying how far it got.
pub fn hog(mebibytes: usize) {
    let mut held: Vec<Vec<u8>> = Vec::new();
    for count in 1..=mebibytes {
        held.push(std::hint::black_box(vec![count as u8 | 1; 1 << 20]));
        println!("{count}");
        // Whoever reads may be gone; the memory is what matters.
        let _ = io::stdout().flush();
    }
    drop(std::hint::black_box(held));
    println!("done");
}

/// Starts so many processes, and says how many there were at once and what stopped it.
pub fn forks(count: usize) -> Value {
    let mut children: Vec<Child> = Vec::new();
    let mut error = None;
    while children.len() < count {
        let program = std::env::current_exe().unwrap_or_default();
        match Command::new(program).args(["sleep", "60"]).stdin(Stdio::null()).spawn() {
            Ok(child) => children.push(child),
            Err(stopped) => {
                error = Some(attempt::name(&stopped));
                break;
            }
        }
    }
    let started = children.len();
    for child in &mut children {
        // Ended or not, it is reaped next.
        let _ = child.kill();
        let _ = child.wait();
    }
    json!({ "started": started, "error": error })
}
