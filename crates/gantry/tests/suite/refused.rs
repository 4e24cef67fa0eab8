//! What cannot be done, and what is said then.

use std::net::TcpListener;
use std::process::Command;

use crate::world::{Registry, World, bare, said, tar};

#[test]
fn names_and_files() {
    let world = World::new();
    let check = |line: &str, status: i32, expect: &str| {
        let said = world.run(line);
        assert_eq!(said.status, status, "{line}: {said:?}");
        assert!(said.err.contains(expect), "{line}: {}", said.err);
    };
    check("rmi none:1", 1, "error: remove none:1: No such image: none:1\n");
    check("rmi -f none:1", 0, "");
    check("tag none:1 x", 1, "error: tag none:1: No such image: none:1\n");
    check("history none", 1, "No such image: none:latest");
    check("save -o /none/x none", 1, "error: write /none/x: No such file or directory");
    check("save none", 1, "No such image: none");
    check("push none:1", 1, "An image does not exist locally with the tag: ");
    check("push -a none", 1, "error: push none: An image does not exist locally with the tag: none\n");
    check("images -f dangling", 2, "invalid filter \"dangling\"");
    check("images -f colour=red", 1, "colour");
    check("images --format {{.Nope}}", 0, "");
    check("images --format {{.ID", 1, "template parsing error: template: :1: unclosed action");
    check("pull -a nginx:1", 2, "tag can't be used with --all-tags/-a: nginx:1");
    check("push --compression gzip --compression-level 12 x", 2, "gzip has 1 to 9");
    check("registry tags a:1", 2, "has a tag or a digest");
    check("registry ls x:y:z", 2, "invalid registry \"x:y:z\"");
    let missing = world.run("inspect none");
    assert_eq!((missing.status, missing.out.as_str()), (1, "[]\n"));
    assert!(missing.err.contains("No such image: none"), "{missing:?}");
}

#[test]
fn archives() {
    let Some(world) = World::of_root("archives") else { return };
    let check = |line: &str, expect: &str| {
        let said = world.fails(line);
        assert!(said.starts_with("[1] error: ") && said.contains(expect), "{line}: {said}");
    };
    let junk = world.write("junk", &[7; 4096]);
    let good = tar(&[("a", &[1; 5000])]);
    let cut = world.write("cut", &good[..3000]);
    let plain = world.write("plain.tar", &good);
    check(&format!("load -i {junk}"), &format!("load {junk}: "));
    check(&format!("load -i {plain}"), &format!("load {plain}: "));
    check(&format!("import {junk} x"), &format!("import {junk}: "));
    check(&format!("import {cut} x"), &format!("import {cut}: "));
    check(&format!("import -c RUN {plain} x"), "change");
    check("load -i /none", "open /none: No such file or directory");
    check("import /tmp x", "open /tmp: it is a directory");
    check("import http://127.0.0.1/x.tar x", "hint: fetch it first");
    assert_eq!(world.ok("images -q"), "");
}

#[test]
fn registries() {
    let Some(world) = World::of_root("registries") else { return };
    // Nobody listens there any more.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    world.write("config.toml", b"[retry]\nattempts = 1\n");
    let config = format!("--config {}", world.path("config.toml"));
    let nobody = world.fails(&format!("{config} pull 127.0.0.1:{port}/x:1"));
    assert!(nobody.starts_with("[1] ") && nobody.contains(&format!("error: pull 127.0.0.1:{port}/x:1: ")), "{nobody}");
    assert!(nobody.contains("refused"), "{nobody}");
    let registry = Registry::serve(&world.dir.join("registry"), &[]);
    let missing = world.fails(&format!("pull {}/none:1", registry.host));
    assert!(missing.starts_with("[1] ") && missing.contains("none"), "{missing}");
    let pushed = world.fails(&format!("push {}/none:1", registry.host));
    assert!(pushed.contains("An image does not exist locally with the tag: "), "{pushed}");
}

#[test]
fn places() {
    let world = World::new();
    let check = |line: &str, expect: &str| {
        let said = said(bare().args(line.split(' ')).output().unwrap());
        assert_eq!(said.status, 1, "{line}: {said:?}");
        assert!(said.err.contains(expect), "{line}: {}", said.err);
    };
    let file = world.write("file", b"");
    check(&format!("--root {file} images"), &file);
    let bad = world.write("bad.toml", b"[gc]\nmax_siez = 1\n");
    check(&format!("--config {bad} --root {} images", world.path("s")), "[gc]: unknown field `max_siez`");
    check(&format!("--config /none --root {} images", world.path("s")), "read the configuration /none: No such file");
}

/// A full disk is told as such, and what fits is taken afterwards.
#[test]
fn a_full_disk() {
    let Some(world) = World::of_root("a_full_disk") else { return };
    std::fs::create_dir(world.dir.join("store")).unwrap();
    let large = world.write("large.tar", &tar(&[("large", &vec![1; 40 << 20])]));
    let small = world.write("small.tar", &tar(&[("small", b"1")]));
    // The file system is there for this shell alone, and goes with it.
    let script = format!(
        "mount -t tmpfs -o size=16m none {store} || exit 77\n\
         $gantry import {large} large:1; echo $?; $gantry import {small} small:1; $gantry images --format '{{{{.Repository}}}}'",
        store = world.path("store")
    );
    let gantry = format!("{} --root {}", env!("CARGO_BIN_EXE_gantry"), world.path("store"));
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--propagation", "private", "sh", "-c", &script]).env("gantry", gantry);
    let said = said(shell.output().unwrap());
    if said.status == 77 {
        return eprintln!("SKIPPED: a_full_disk: nothing can be mounted here: {}", said.err);
    }
    assert!(said.err.contains("error: import ") && said.err.contains("the disk is full under "), "{said:?}");
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!((lines[0], lines[1].len(), lines[2]), ("1", 71, "small"), "{said:?}");
}
