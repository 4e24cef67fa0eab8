//! Bad input: identifiers, versions, documents that are too deep, too large, or none.

use gantry_testkit::spec::{Parts, mount};
use gantry_testkit::{Container, Kit, Outcome, Test, ensure};

use crate::check::{Refused, nothing_left, refused_tests, test};

/// Identifiers that name something else than a directory of their own.
const BAD_IDS: [(&str, &str); 12] = [
    ("empty", ""),
    ("dot", "."),
    ("parent", ".."),
    ("parent_below", "../x"),
    ("slash", "a/b"),
    ("absolute", "/tmp/x"),
    ("blank", "a b"),
    ("leading_dot", ".hidden"),
    ("newline", "a\nb"),
    ("unicode", "caf\u{e9}"),
    ("star", "a*"),
    (
        "too_long",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ),
];

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    let mut all = refused_tests("input", REFUSED);
    for (name, id) in BAD_IDS {
        all.push(Test::new(format!("input::id_{name}_is_refused"), move |kit| bad_id(kit, id)));
    }
    all.extend([
        test("input::ids_that_are_allowed", good_ids),
        test("input::versions_that_are_allowed", versions),
        test("input::hundred_thousand_mounts", many_mounts).seconds(60.0),
        test("input::deep_nesting", deep),
        test("input::large_document", large),
        test("input::configuration_is_a_pipe", pipe),
    ]);
    all
}

/// Replaces a value of the document; `None` takes it out.
fn set(container: &mut Container<'_>, pointer: &str, value: Option<serde_json::Value>) -> Outcome {
    let mut document = serde_json::to_value(&container.spec)?;
    let (parent, name) = pointer.rsplit_once('/').unwrap_or_default();
    if let Some(object) = document.pointer_mut(parent).and_then(serde_json::Value::as_object_mut) {
        match value {
            Some(value) => drop(object.insert(name.to_owned(), value)),
            None => drop(object.remove(name)),
        }
    }
    container.raw = Some(document.to_string());
    Ok(())
}

const REFUSED: &[Refused] = &[
    Refused { name: "version_missing_is_refused", change: |c| set(c, "/ociVersion", None), says: "version" },
    Refused { name: "version_2_is_refused", change: |c| set(c, "/ociVersion", Some("2.0.0".into())), says: "2.0.0" },
    Refused {
        name: "version_that_is_none_is_refused",
        change: |c| set(c, "/ociVersion", Some("one".into())),
        says: "one",
    },
    Refused { name: "version_of_another_type_is_refused", change: |c| set(c, "/ociVersion", Some(1.into())), says: "" },
    Refused { name: "process_missing_is_refused", change: |c| set(c, "/process", None), says: "process" },
    Refused { name: "root_missing_is_refused", change: |c| set(c, "/root", None), says: "root" },
    Refused { name: "mounts_of_another_type_are_refused", change: |c| set(c, "/mounts", Some("x".into())), says: "" },
    Refused {
        name: "uid_that_is_negative_is_refused",
        change: |c| set(c, "/process/user/uid", Some((-1).into())),
        says: "",
    },
    Refused {
        name: "uid_that_is_too_large_is_refused",
        change: |c| set(c, "/process/user/uid", Some(4_294_967_296_u64.into())),
        says: "",
    },
    Refused {
        name: "nul_in_an_argument_is_refused",
        change: |c| {
            c.spec.set_args(&["/init", "a\0b"]);
            Ok(())
        },
        says: "",
    },
    Refused {
        name: "nul_in_the_environment_is_refused",
        change: |c| {
            c.spec.process_mut().env.push("A=\0".into());
            Ok(())
        },
        says: "",
    },
    Refused {
        name: "nul_in_a_mount_is_refused",
        change: |c| {
            c.mount(mount("/m\0/x", "tmpfs", "tmpfs", &[]));
            Ok(())
        },
        says: "",
    },
    Refused {
        name: "nul_in_the_host_name_is_refused",
        change: |c| {
            c.spec.hostname = "a\0b".into();
            Ok(())
        },
        says: "",
    },
    Refused {
        name: "host_name_that_is_too_long_is_refused",
        change: |c| {
            c.spec.hostname = "a".repeat(65);
            Ok(())
        },
        says: "",
    },
    Refused {
        name: "half_a_document_is_refused",
        change: |c| {
            let text = serde_json::to_string(&c.spec)?;
            c.raw = Some(text[..text.len() / 2].to_owned());
            Ok(())
        },
        says: "",
    },
    Refused {
        name: "empty_document_is_refused",
        change: |c| {
            c.raw = Some(String::new());
            Ok(())
        },
        says: "",
    },
    Refused {
        name: "list_is_refused",
        change: |c| {
            c.raw = Some("[]".into());
            Ok(())
        },
        says: "",
    },
];

/// Refused by every command, with nothing made anywhere.
fn bad_id(kit: &Kit, id: &str) -> Outcome {
    let container = kit.container()?;
    container.write_config()?;
    let before = std::fs::read_dir(container.state_root())?.count();
    for words in [&["create", id][..], &["run", id], &["delete", "--force", id], &["state", id]] {
        // Deletion by force of what cannot be is no error everywhere; that it removes nothing is what counts.
        let output = container.call(words)?;
        let ok = words[0] == "delete" || !output.status.success();
        ensure!(ok && output.status.code().is_some(), "{words:?}: {}", output.text());
    }
    let after = std::fs::read_dir(container.state_root())?.count();
    ensure!(before == after, "something was made in {}", container.state_root().display());
    ensure!(container.bundle().is_dir(), "the bundle is gone");
    nothing_left(&container)
}

fn good_ids(kit: &Kit) -> Outcome {
    for suffix in ["a", "A9", "_x", "+x", "a.b", "a..b", "a-b"] {
        let mut container = kit.container()?;
        container.id = format!("{}{suffix}", container.id);
        let output = container.run()?;
        ensure!(output.status.success(), "id {}: {}", container.id, output.text());
    }
    Ok(())
}

fn versions(kit: &Kit) -> Outcome {
    for version in ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.1", "1.3.0"] {
        let mut container = kit.container()?;
        container.spec.oci_version = version.into();
        let output = container.run()?;
        ensure!(output.status.success(), "version {version}: {}", output.text());
    }
    Ok(())
}

/// More mounts than a mount namespace may have: refused or carried out, but not endless, and gone afterwards.
fn many_mounts(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.mounts.extend((0..100_001).map(|_| mount("/tmp", "tmpfs", "tmpfs", &["size=4k"])));
    container.write_config()?;
    let limit = kit.time(45.0);
    let mut command = container.command(&["create", &container.id]);
    let output = gantry_testkit::command::run(&mut command, &container.output_dir(), limit)?;
    ensure!(output.status.code().is_some_and(|code| code != 0), "create with 100 001 mounts: exit {}", output.code());
    ensure!(output.stderr.len() < 10_000, "the message has {} bytes", output.stderr.len());
    nothing_left(&container)
}

/// A document nested more deeply than a stack: refused, not a crash.
fn deep(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let text = serde_json::to_string(&container.spec)?;
    let nested = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    container.raw = Some(format!("{{\"unknown\":{nested},{}", &text[1..]));
    let output = container.run()?;
    ensure!(output.status.code().is_some(), "killed: {}", output.text());
    nothing_left(&container)
}

/// Eight megabytes of annotations: refused or kept, in bounded time.
fn large(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    for number in 0..8192 {
        container.spec.annotations.insert(format!("key{number}"), "x".repeat(1000));
    }
    let output = container.run()?;
    ensure!(output.status.code().is_some(), "killed: {}", output.text());
    container.delete_force()?;
    nothing_left(&container)
}

/// What is no file is not waited for.
fn pipe(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        container.bundle().join("config.json"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )?;
    let mut command = container.command(&["create", &container.id]);
    let output = gantry_testkit::command::run(&mut command, &container.output_dir(), kit.time(5.0))?;
    ensure!(!output.status.success(), "create of a pipe: {}", output.text());
    nothing_left(&container)
}
