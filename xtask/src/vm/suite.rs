//! `cargo xtask vm test`: the project's tests in every boot.

use super::boot::{self, Request};
use super::{Boot, image};
use crate::built::{self, Binary, Kind};
use crate::{counts, dist};
use anyhow::Result;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

/// The crates whose tests touch the kernel, and so may differ from host to host.
const PACKAGES: &[&str] = &["gantry-sys", "gantry-cgroup", "gantry-runtime", "gantry-oci"];

/// Runs the suite in some boots, and says with a closing line what came of it.
pub fn run(boots: &[Boot]) -> Result<ExitCode> {
    let mut output = String::new();
    let passed = run_with(boots, &mut |line| {
        println!("{line}");
        output.push_str(line);
        output.push('\n');
    })?;
    for reason in counts::skip_reasons(&output) {
        println!("skipped: {reason}");
    }
    println!("{}", counts::parse(&output));
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same, for one who counts for himself.
pub fn run_with(boots: &[Boot], each_line: &mut dyn FnMut(&str)) -> Result<bool> {
    let image = image::ensure()?;
    let tests = built::of(PACKAGES, Kind::Tests)?;
    let mut binaries = vec![Binary::of_file(&dist::runtime()?)];
    binaries.extend(tests.iter().cloned());
    let mut all_passed = true;
    for &boot in boots {
        each_line(&format!("=== virtual machine, boot {}", boot.name()));
        let started = Instant::now();
        let script = script(boot, &tests);
        let request = Request { boot, memory: 2048, timeout: 1200, script, binaries: binaries.clone() };
        let mut pass = |line: &[u8]| each_line(String::from_utf8_lossy(line).trim_end());
        let mut status = boot::run(&image, &request, &mut pass);
        // An emulated processor that is changed in the middle of its code now and then runs into the middle of an
        // instruction: the fault of the emulator, which a second boot does not repeat. One that does is ours.
        if status.as_ref().is_err_and(|error| error.to_string().contains(boot::PANIC)) {
            each_line(&format!("boot {}: the guest's kernel panicked; once more", boot.name()));
            let mut pass = |line: &[u8]| each_line(String::from_utf8_lossy(line).trim_end());
            status = boot::run(&image, &request, &mut pass);
        }
        match status {
            Ok(0) => {}
            Ok(status) => {
                all_passed = false;
                each_line(&format!("boot {}: the tests failed, status {status}", boot.name()));
            }
            // A machine that did not come through is a failed test, and no reason to leave the other boots out.
            Err(error) => {
                all_passed = false;
                each_line(&format!("boot {}: {error:#}", boot.name()));
                each_line("0 passed, 1 failed");
            }
        }
        eprintln!("vm: boot {} took {:.0} s", boot.name(), started.elapsed().as_secs_f32());
        drop(std::io::stdout().flush());
    }
    Ok(all_passed)
}

/// Runs every test executable, and fails if one of them failed. The unit tests are the same in every boot: they run in
/// the first only.
fn script(boot: Boot, tests: &[Binary]) -> String {
    let here = tests.iter().filter(|test| !test.is_unit() || boot == Boot::AppArmor);
    let runs = here.map(|test| format!("echo '--- {0}'\n/gantry/bin/{0} --test-threads 2 || failed=1\n", test.name));
    format!("failed=0\n{}exit $failed\n", runs.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_tests_run_once() {
        let tests = ["a.unit", "a.integration"].map(|name| Binary { name: name.into(), path: "/x".into() });
        assert!(script(Boot::AppArmor, &tests).contains("bin/a.unit"));
        assert!(!script(Boot::SeLinux, &tests).contains("bin/a.unit"));
        assert!(script(Boot::SeLinux, &tests).contains("bin/a.integration"));
    }
}
