//! The life of an image, from an archive to a registry and back.

use serde_json::Value;

use crate::world::{Registry, World, said, tar};

/// An image of two files, imported as `NAME`.
fn import(world: &World, name: &str, content: &[u8]) -> String {
    let archive = world.write("files.tar", &tar(&[("etc/", b""), ("etc/file", content), ("top", b"1")]));
    let id = world.ok(&format!("import -m made --platform linux/amd64 {archive} {name}"));
    id.trim().to_owned()
}

fn table(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .map(|line| line.split("   ").map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect())
        .collect()
}

#[test]
fn import_push_pull() {
    let Some(world) = World::of_root("import_push_pull") else { return };
    let mut registry = Registry::serve(&world.dir.join("registry"), &[]);
    let host = registry.host.clone();
    let id = import(&world, "web:1", b"first");
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");

    let short = &id[7..19];
    let list = table(&world.ok("images"));
    assert_eq!(list[0], ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    assert_eq!(list[1][..3], ["web", "1", short]);
    assert_eq!(world.ok("images -q"), format!("{short}\n"));
    assert_eq!(world.ok("images -q --no-trunc"), format!("{id}\n"));

    let remote = format!("{host}/team/web:2");
    assert_eq!(world.ok(&format!("tag web:1 {remote}")), "");
    let pushed = world.run(&format!("push {remote}"));
    assert_eq!(pushed.status, 0, "{pushed:?}");
    assert!(pushed.err.starts_with(&format!("The push refers to repository [{host}/team/web]\n")), "{pushed:?}");
    let digest = pushed.out.split(' ').nth(2).unwrap().to_owned();
    assert!(pushed.out.starts_with("2: digest: sha256:") && pushed.out.contains(" size: "), "{pushed:?}");
    assert_eq!(world.ok(&format!("push -q {remote}")), format!("{remote}\n"));

    assert_eq!(world.ok(&format!("registry ls {host}")), "team/web\n");
    assert_eq!(world.ok(&format!("registry tags {host}/team/web")), "2\n");
    assert_eq!(world.ok(&format!("registry tags --json {host}/team/web")), "[\"2\"]\n");

    // The last name in a repository takes the digest there with it: of what was imported, not of what was pushed.
    let untagged = world.ok("rmi web:1");
    assert!(
        untagged.starts_with("Untagged: web:1\nUntagged: web@sha256:") && !untagged.contains(&digest),
        "{untagged}"
    );
    let gone = world.ok(&format!("rmi {remote}"));
    assert!(gone.starts_with(&format!("Untagged: {remote}\n")) && gone.contains(&format!("Deleted: {id}\n")), "{gone}");
    assert_eq!(world.ok("images -q"), "");
    // What was removed has left the disk, and nothing is left to prune.
    for place in ["trash", "layers"] {
        let left: Vec<_> = std::fs::read_dir(world.dir.join("store").join(place)).unwrap().collect();
        assert!(left.is_empty(), "{place}: {left:?}");
    }
    assert!(world.ok("image prune -f").contains("space: 0B"));

    let pulled = world.run(&format!("pull {remote}"));
    assert_eq!(pulled.status, 0, "{pulled:?}");
    let expect = format!("Digest: {digest}\nStatus: Downloaded newer image for {remote}\n{remote}\n");
    assert_eq!(pulled.out, expect);
    assert!(
        pulled.err.contains("2: Pulling from team/web\n") && pulled.err.contains(": Pull complete\n"),
        "{pulled:?}"
    );
    assert!(world.ok(&format!("pull {remote}")).contains("Status: Image is up to date for "));
    assert_eq!(world.ok(&format!("pull -q {host}/team/web@{digest}")), format!("{host}/team/web@{digest}\n"));
    let lines: Vec<Value> = world
        .ok(&format!("pull --json -a {host}/team/web"))
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    assert_eq!(lines.last().unwrap()["digest"], digest.as_str());
    assert_eq!(registry.stop(), Some(0));
}

#[test]
fn looked_at() {
    let Some(world) = World::of_root("looked_at") else { return };
    let archive = world.write("files.tar", &tar(&[("a", b"12345")]));
    let mut command = world.command("import -m made --platform linux/amd64");
    command.args(["-c", "CMD [\"sh\", \"-c\"]", "-c", "LABEL a.b=c", &archive, "look:1"]);
    let id = String::from_utf8(command.output().unwrap().stdout).unwrap().trim().to_owned();

    let check = |format: &str, expect: &str| {
        let said = said(world.command("inspect -f").args([format, "look:1"]).output().unwrap());
        assert_eq!((said.out, said.err.as_str(), said.status), (format!("{expect}\n"), "", 0), "{format}");
    };
    check("{{.Id}}", &id);
    check("{{.RepoTags}}", "[look:1]");
    check("{{json .Config.Cmd}}", "[\"sh\",\"-c\"]");
    check("{{.Os}}/{{.Architecture}}", "linux/amd64");
    check("{{len .RootFS.Layers}}{{range $k, $v := .Config.Labels}}{{$k}}={{$v}}{{end}}", "1a.b=c");
    check("{{index .Config.Labels \"none\"}}", "");
    let document: Value = serde_json::from_str(&world.ok(&format!("image inspect {}", &id[7..15]))).unwrap();
    assert_eq!(document[0]["Id"], id.as_str());
    assert_eq!(document[0]["Comment"], "made");

    let history = table(&world.ok("history look:1"));
    assert_eq!(history[0], ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    assert_eq!((history[1][0].as_str(), history[1].last().unwrap().as_str()), (&id[7..19], "made"));
    assert_eq!(world.ok("history -q --no-trunc look:1"), format!("{id}\n"));

    let check = |line: &str, expect: &str| assert_eq!(world.ok(line), expect, "{line}");
    check("images --format {{.Repository}}:{{.Tag}}", "look:1\n");
    check("images -q -f reference=loo*", &format!("{}\n", &id[7..19]));
    check("images -q -f label=a.b=d", "");
    check("images -q -f dangling=true", "");
    check("images -q other", "");
    let json: Value = serde_json::from_str(&world.ok("images --json")).unwrap();
    assert_eq!(json[0]["RepoTags"][0], "look:1");
    let line: Value = serde_json::from_str(&world.ok("image ls --format json")).unwrap();
    assert_eq!((line["Repository"].as_str(), line["Digest"].as_str()), (Some("look"), Some("<none>")));
}

#[test]
fn saved_and_loaded() {
    let Some(world) = World::of_root("saved_and_loaded") else { return };
    let id = import(&world, "save:1", b"saved");
    for form in ["docker-archive", "oci-archive"] {
        let file = world.path(form);
        assert_eq!(world.ok(&format!("save -o {file} --format {form} save:1")), "");
        world.ok("rmi -f save:1");
        assert_eq!(world.ok("images -q"), "", "{form}");
        assert_eq!(world.run(&format!("load -q -i {file}")).out, "Loaded image: save:1\n", "{form}");
        assert_eq!(world.ok("inspect -f {{.Id}} save:1"), format!("{id}\n"), "{form}");
    }
    // Through a pipe.
    let archive = world.command("save save:1").output().unwrap().stdout;
    world.ok("rmi -f save:1");
    assert_eq!(world.feed("load", &archive).out, "Loaded image: save:1\n");
    // Into a pipe that nobody reads.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let closed = said(world.command("save save:1").stdout(writer).output().unwrap());
    assert_eq!((closed.status, closed.err.as_str()), (0, ""));
    // The files themselves.
    let files = world.command("export save:1").output().unwrap().stdout;
    let again = world.feed("import - again:1", &files);
    assert_eq!(again.status, 0, "{again:?}");
    assert_eq!(world.ok("image diff save:1 again:1"), "");
}

#[test]
fn differences() {
    let Some(world) = World::of_root("differences") else { return };
    let archive = |name: &str, entries: &[(&str, &[u8])]| {
        let path = world.write(name, &tar(entries));
        world.ok(&format!("import {path} {name}:1"));
    };
    archive("old", &[("same", b"1"), ("changed", b"12"), ("gone", b"1")]);
    archive("new", &[("same", b"1"), ("changed", b"12345"), ("added", b"1")]);
    let lines = world.ok("image diff old:1 new:1");
    let mut lines: Vec<&str> = lines.lines().filter(|line| !line.ends_with(" /")).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A /added", "C /changed  2B -> 5B", "D /gone"]);
    let json: Value = serde_json::from_str(&world.ok("image diff --json old:1 new:1")).unwrap();
    assert!(json.as_array().unwrap().iter().any(|one| one["path"] == "/gone" && one["kind"] == "removed"), "{json}");
}

#[test]
fn removed_and_pruned() {
    let Some(world) = World::of_root("removed_and_pruned") else { return };
    let first = import(&world, "prune:1", b"first");
    let second = import(&world, "prune:1", b"second");
    assert_ne!(first, second);
    assert_eq!(world.ok("images -q -f dangling=true"), format!("{}\n", &first[7..19]));

    let usage = table(&world.ok("system df"));
    assert_eq!(usage[0], ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    assert_eq!(usage[1][..3], ["Images", "2", "0"]);
    assert!(world.ok("system df -v").contains("Images space usage:"));
    let json: Value = serde_json::from_str(&world.ok("system df --json")).unwrap();
    assert_eq!(json["Images"].as_array().map(Vec::len), Some(2));

    let asked = world.feed("image prune", b"n\n");
    assert_eq!((asked.status, asked.out.as_str()), (1, ""));
    assert!(
        asked.err.contains("WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] ")
    );
    let would = world.ok("image prune --dry-run");
    assert!(
        would.contains(&format!("deleted: {first}\n")) && would.contains("Space that would be reclaimed: "),
        "{would}"
    );
    let done = world.feed("image prune", b"y\n").out;
    assert!(done.starts_with("Deleted Images:\n") && done.contains(&format!("deleted: {first}\n")), "{done}");
    assert!(done.contains("\nTotal reclaimed space: ") && !done.contains("space: 0B"), "{done}");
    assert_eq!(world.ok("image prune -f"), "Total reclaimed space: 0B\n");
    let json: Value = serde_json::from_str(&world.ok("image prune -af --json")).unwrap();
    assert!(json["ImagesDeleted"].as_array().unwrap().contains(&serde_json::json!({"Deleted": second})), "{json}");
    assert_eq!(world.ok("images -q"), "");
}
