//! What needs neither store nor registry.

use std::process::Stdio;

use crate::world::{World, bare, said};

#[test]
fn versions_and_help() {
    let run = |line: &str| said(bare().args(line.split(' ')).output().unwrap());
    // What there is to say without a daemon is said, and that there is none.
    let version = run("-H unix:///none/x.sock version");
    assert!(version.out.contains(concat!(" Version:           ", env!("CARGO_PKG_VERSION"), "\n")), "{version:?}");
    assert!(version.status == 1 && version.err.contains("cannot connect to the daemon"), "{version:?}");
    assert_eq!(run("--version").out, concat!("gantry ", env!("CARGO_PKG_VERSION"), "\n"));
    assert!(run("help pull").out.contains("Usage: gantry pull [OPTIONS] <NAME>..."));
    assert_eq!(run("pull").status, 2);
    let none = said(bare().output().unwrap());
    assert_eq!((none.status, none.out.as_str()), (2, ""));
    assert!(none.err.contains("Commands:"));
}

#[test]
fn a_flag_in_the_wrong_place() {
    let said = said(bare().args(["images", "--root", "/x"]).output().unwrap());
    assert_eq!(said.status, 2);
    assert!(
        said.err.contains("hint: --root stands before the command, as in gantry --root ... COMMAND"),
        "{}",
        said.err
    );
}

#[test]
fn pages() {
    let world = World::new();
    world.ok(&format!("man {}", world.path("man")));
    let pages: Vec<String> = std::fs::read_dir(world.dir.join("man"))
        .unwrap()
        .map(|page| page.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in [
        "gantry.1",
        "gantry-pull.1",
        "gantry-image-prune.1",
        "gantry-run.1",
        "gantry-network-create.1",
        "gantry-registry-serve.1",
    ] {
        assert!(pages.iter().any(|there| there == page), "{page}: {pages:?}");
    }
    assert!(world.fails("man /dev/null/x").contains("write manual pages into /dev/null/x"));
}

/// Who reads no further ends it without a word.
#[test]
fn a_broken_pipe_is_quiet() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = bare().args(["completion", "bash"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let said = said(child.wait_with_output().unwrap());
    assert_eq!((said.status, said.err.as_str()), (0, ""));
}
