//! The tables of calls against the kernel's headers on this machine, and against themselves.

use std::collections::BTreeMap;

use gantry_seccomp::Arch;

use crate::support::skipped;

#[test]
fn tables_are_sound() {
    for arch in Arch::ALL {
        let calls: Vec<_> = arch.calls().collect();
        assert!(calls.is_sorted_by(|a, b| a.0 < b.0), "{arch:?}: numbers are in order, each once");
        assert!(calls.len() > 300, "{arch:?} has {} calls", calls.len());
        for (number, name) in calls {
            assert_eq!(arch.number(name), Some(number), "{arch:?} {name}");
        }
    }
    let everywhere = ["read", "openat2", "clone3", "mseal", "file_setattr"];
    assert!(Arch::ALL.iter().all(|arch| everywhere.iter().all(|name| arch.number(name).is_some())));
    assert_eq!(Arch::X86_64.number("socketcall"), None);
    assert_eq!(Arch::X86_64.number(""), None);
}

#[test]
fn tables_agree_with_the_kernels_headers() {
    let headers = [
        (Arch::X86_64, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        (Arch::X86, "/usr/include/x86_64-linux-gnu/asm/unistd_32.h"),
        (Arch::X32, "/usr/include/x86_64-linux-gnu/asm/unistd_x32.h"),
    ];
    for (arch, path) in headers {
        let Ok(text) = std::fs::read_to_string(path) else {
            skipped(&format!("tables_agree_with_the_kernels_headers, {arch:?}"), &format!("no {path}"));
            continue;
        };
        let header: BTreeMap<&str, u32> = text.lines().filter_map(definition).collect();
        assert!(header.len() > 300, "{path}: {} numbers found", header.len());
        for (name, number) in header {
            let bit = if arch == Arch::X32 { 0x4000_0000 } else { 0 };
            assert_eq!(arch.number(name), Some(number + bit), "{arch:?} {name}");
        }
    }
}

/// `#define __NR_name 1`, or for x32, `(__X32_SYSCALL_BIT + 1)`.
fn definition(line: &str) -> Option<(&str, u32)> {
    let (name, value) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
    let number = value.trim().trim_start_matches("(__X32_SYSCALL_BIT + ").trim_end_matches(')');
    Some((name, number.parse().ok()?))
}
