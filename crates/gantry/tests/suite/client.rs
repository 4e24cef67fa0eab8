//! The command line as a client: what it asks a daemon for, and what it makes of the answers.

use std::io::Write;
use std::process::Stdio;

use crate::fake::{Answer, Asked, Fake, frame, json};
use crate::world::{bare, said};

const CONTAINER: &str = r#"{"Id":"0123456789abcdef0123","State":{"Running":true},"Config":{"Tty":false,"OpenStdin":true},
    "NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}]}}}"#;

/// A daemon with one container, `box`.
fn one_container(asked: &Asked) -> Answer {
    let path = asked.what.split('?').next().unwrap_or_default();
    match path {
        "GET /containers/box/json" => json(CONTAINER),
        "GET /containers/json" => {
            json(&format!("[{{\"Id\":\"{}\",\"Names\":[\"/box\"],\"Status\":\"Up (healthy)\"}}]", "ab".repeat(32)))
        }
        "POST /containers/create" => Answer::Json(201, r#"{"Id":"made","Warnings":["it is small"]}"#.to_owned()),
        "POST /containers/made/wait" | "POST /containers/box/wait" => json(r#"{"StatusCode":7}"#),
        "POST /containers/made/attach" | "POST /exec/run/start" => {
            Answer::Hijack([frame(1, "out\n"), frame(2, "err\n"), frame(1, "more\n")].concat())
        }
        "POST /containers/box/exec" => Answer::Json(201, r#"{"Id":"run"}"#.to_owned()),
        "GET /exec/run/json" => json(r#"{"ExitCode":3,"Running":false}"#),
        "POST /containers/made/start" | "POST /containers/box/stop" | "POST /containers/box/kill" => {
            Answer::Bytes(204, "", Vec::new())
        }
        "GET /containers/0123456789abcdef0123/logs" => {
            let bytes = [frame(1, "one\ntw"), frame(2, "bad\n"), frame(1, "o\n")].concat();
            Answer::Bytes(200, "Content-Type: application/vnd.docker.multiplexed-stream\r\n", bytes)
        }
        _ => Answer::Json(
            404,
            format!(r#"{{"message":"No such container: {}"}}"#, path.rsplit('/').nth(1).unwrap_or_default()),
        ),
    }
}

#[test]
fn versions_are_agreed_on() {
    for (theirs, ours) in [("1.24", "1.24"), ("1.45", "1.45"), ("1.99", "1.51")] {
        let fake = Fake::new(theirs, one_container);
        assert_eq!(fake.run("ps -q").out, "abababababab\n", "{theirs}");
        assert_eq!(fake.asked()[0].version, ours, "{theirs}");
    }
    let fake = Fake::new("1.20", one_container);
    let said = fake.run("ps");
    assert_eq!(said.status, 1);
    assert!(said.err.contains("it speaks version 1.20 of the API, 1.24 is the oldest here"), "{}", said.err);
}

/// A daemon whose container `box` has a checkpoint.
fn checkpoints(asked: &Asked) -> Answer {
    match asked.what.as_str() {
        "POST /containers/box/checkpoints" => Answer::Bytes(201, "", Vec::new()),
        "GET /containers/box/checkpoints" | "GET /containers/box/checkpoints?dir=%2Fd" => json(r#"[{"Name":"one"}]"#),
        "DELETE /containers/box/checkpoints/one" | "POST /containers/box/start?checkpoint=one&checkpoint-dir=%2Fd" => {
            Answer::Bytes(204, "", Vec::new())
        }
        _ => one_container(asked),
    }
}

#[test]
fn checkpoints_are_made_listed_and_gone_on_from() {
    let fake = Fake::new("1.45", checkpoints);
    for (line, expect) in [
        ("checkpoint create box one", "one\n"),
        ("checkpoint create --leave-running --checkpoint-dir /d box one", "one\n"),
        ("checkpoint ls box", "CHECKPOINT NAME\none\n"),
        ("checkpoint ls -q --checkpoint-dir /d box", "one\n"),
        ("checkpoint rm box one", ""),
        ("start --checkpoint one --checkpoint-dir /d box", "box\n"),
    ] {
        let said = fake.run(line);
        assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (0, expect, ""), "{line}");
    }
    let asked = fake.asked();
    let body = |nth: usize| serde_json::from_str::<serde_json::Value>(&asked[nth].body).unwrap();
    assert_eq!(body(0), serde_json::json!({"CheckpointID": "one", "CheckpointDir": "", "Exit": true}));
    assert_eq!(body(1), serde_json::json!({"CheckpointID": "one", "CheckpointDir": "/d", "Exit": false}));
    assert_eq!(fake.run("checkpoint rm box two").status, 1);
}

#[test]
fn run_joins_and_gives_the_status() {
    let fake = Fake::new("1.45", one_container);
    let said = fake.run("run --rm -e A=1 --name x busybox echo hi");
    assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (7, "out\nmore\n", "WARNING: it is small\nerr\n"));
    let asked = fake.asked();
    let mut what: Vec<&str> = asked.iter().map(|one| one.what.as_str()).collect();
    what.sort_unstable();
    assert_eq!(
        what,
        [
            "POST /containers/create?name=x",
            "POST /containers/made/attach?stream=1&stdout=1&stderr=1",
            "POST /containers/made/start",
            "POST /containers/made/wait?condition=removed",
            "typed",
        ]
    );
    let body: serde_json::Value = serde_json::from_str(&asked[0].body).unwrap();
    assert_eq!(
        (&body["Env"][0], &body["Cmd"][1], &body["HostConfig"]["AutoRemove"]),
        (&"A=1".into(), &"hi".into(), &true.into())
    );
    // The container is started when both of the others are there, so that nothing of it is missed.
    let place = |text: &str| asked.iter().position(|one| one.what.contains(text)).unwrap();
    assert!(place("/start") > place("/attach") && place("/start") > place("/wait"));
}

#[test]
fn what_is_typed_goes_in_and_ends() {
    let fake = Fake::new("1.45", one_container);
    let mut child = fake
        .command("run -i busybox cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let said = said(child.wait_with_output().unwrap());
    assert_eq!((said.status, said.out.as_str()), (7, "out\nmore\n"), "{said:?}");
    let typed = fake.asked().into_iter().find(|one| one.what == "typed").unwrap();
    assert_eq!(typed.body, "typed\n");
}

#[test]
fn a_failed_start_has_its_own_statuses() {
    let check = |message: &'static str, status: i32| {
        let fake = Fake::new("1.45", move |asked: &Asked| {
            if asked.what == "POST /containers/made/start" {
                return Answer::Json(500, format!(r#"{{"message":"{message}"}}"#));
            }
            one_container(asked)
        });
        let said = fake.run("run busybox x");
        assert_eq!(
            (said.status, said.err.lines().last()),
            (status, Some(format!("gantry: Error response from daemon: {message}.").as_str()))
        );
    };
    check("exec: x: executable file not found in $PATH", 127);
    check("exec: x: permission denied", 126);
    check("port is already allocated", 125);
}

#[test]
fn exec_gives_the_status() {
    let fake = Fake::new("1.45", one_container);
    let said = fake.run("exec -u me -w /tmp box true -x");
    assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (3, "out\nmore\n", "err\n"));
    let body: serde_json::Value = serde_json::from_str(&fake.asked()[0].body).unwrap();
    assert_eq!(
        (&body["User"], &body["WorkingDir"], &body["Cmd"]),
        (&"me".into(), &"/tmp".into(), &serde_json::json!(["true", "-x"]))
    );
    assert_eq!(fake.run("exec none true").status, 1);
}

#[test]
fn logs_are_told_apart() {
    let fake = Fake::new("1.45", one_container);
    let one = fake.run("logs --tail 5 box");
    assert_eq!((one.status, one.out.as_str(), one.err.as_str()), (0, "one\ntwo\n", "bad\n"));
    assert!(fake.asked()[1].what.ends_with("/logs?stdout=1&stderr=1&tail=5"));
    let two = fake.run("logs box box");
    assert_eq!(
        (two.out.as_str(), two.err.as_str()),
        ("box | one\nbox | two\nbox | one\nbox | two\n", "box | bad\nbox | bad\n")
    );
    assert_eq!(fake.run("logs --since x box").status, 2);
}

#[test]
fn many_names_each_with_its_fate() {
    let fake = Fake::new("1.45", one_container);
    let said = fake.run("stop -t 3 box none box");
    assert_eq!((said.status, said.out.as_str()), (1, "box\nbox\n"));
    assert_eq!(said.err, "Error response from daemon: No such container: none\n");
    assert!(fake.asked().iter().all(|one| one.what.ends_with("/stop?t=3")));
    let said = fake.run("rm -f none");
    assert_eq!((said.status, said.out.as_str()), (0, ""));
    assert_eq!(fake.run("inspect none").err, "Error: No such object: none\n");
}

#[test]
fn all_of_them() {
    let fake = Fake::new("1.45", one_container);
    assert_eq!(fake.run("stop -a").out, "box\n");
    let asked = fake.asked();
    assert_eq!(
        asked[0].what,
        "GET /containers/json?all=1&filters=%7B%22status%22:%7B%22restarting%22:true%2C%22running%22:true%7D%7D"
    );
    assert_eq!(asked[1].what, "POST /containers/box/stop");
    assert_eq!(fake.run("rm -af").err, "Error response from daemon: No such container: containers\n");
    assert_eq!(fake.asked()[0].what, "GET /containers/json?all=1");
    assert_eq!(fake.run("stop -a box").status, 2);
    assert_eq!(fake.run("rm").status, 2);
}

/// A daemon with one image.
fn one_image(asked: &Asked) -> Answer {
    let id = format!("sha256:{}", "cd".repeat(32));
    match asked.what.split('?').next().unwrap_or_default() {
        "GET /images/json" => json(&format!(r#"[{{"Id":"{id}","RepoTags":["a:1","b:2"],"Created":1,"Size":1500}}]"#)),
        "POST /images/create" if asked.what.contains("fromSrc") => json(&format!("{{\"status\":\"{id}\"}}\n")),
        "POST /images/create" => json(
            "{\"status\":\"Pulling from a\",\"id\":\"1\"}\r\n{\"status\":\"Downloading\",\"id\":\"x\",\"progressDetail\":{\"current\":1}}\r\n\
             {\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"x\"}\r\n{\"status\":\"Digest: sha256:1\"}\r\n",
        ),
        "POST /images/docker.io/library/a/push" => json(
            "{\"status\":\"Preparing\",\"id\":\"x\"}\n{\"errorDetail\":{\"message\":\"denied\"},\"error\":\"denied\"}\n",
        ),
        "POST /images/load" => json("{\"stream\":\"Loaded image: a:1\\n\"}\n"),
        "DELETE /images/a:1" => json(r#"[{"Untagged":"a:1"},{"Deleted":"sha256:1"}]"#),
        "GET /images/get" => Answer::Bytes(200, "Content-Type: application/x-tar\r\n", b"archive".to_vec()),
        "GET /images/a/history" => {
            json(&format!(r#"[{{"Id":"{id}","Created":1,"CreatedBy":"CMD","Size":5,"Comment":"c"}}]"#))
        }
        "POST /images/prune" => json(r#"{"ImagesDeleted":[{"Deleted":"sha256:1"}],"SpaceReclaimed":1500}"#),
        _ => Answer::Json(404, r#"{"message":"No such image"}"#.to_owned()),
    }
}

#[test]
fn images() {
    let fake = Fake::new("1.45", one_image);
    let check = |line: &str, status: i32, out: &str, asked: &str| {
        let said = fake.run(line);
        assert_eq!((said.status, said.out.as_str()), (status, out), "{line}: {}", said.err);
        let seen = fake.asked();
        assert_eq!(seen.last().map(|one| one.what.as_str()), Some(asked), "{line}");
    };
    check("images --format {{.Repository}}:{{.Tag}}:{{.Size}}", 0, "a:1:1.5kB\nb:2:1.5kB\n", "GET /images/json");
    check(
        "pull a:1",
        0,
        "1: Pulling from a\nx: Pull complete\nDigest: sha256:1\ndocker.io/library/a:1\n",
        "POST /images/create?fromImage=docker.io%2Flibrary%2Fa&tag=1",
    );
    check("pull -q a:1", 0, "docker.io/library/a:1\n", "POST /images/create?fromImage=docker.io%2Flibrary%2Fa&tag=1");
    check("push a:1", 1, "x: Preparing\n", "POST /images/docker.io/library/a/push?tag=1");
    check("rmi a:1", 0, "Untagged: a:1\nDeleted: sha256:1\n", "DELETE /images/a:1");
    check("save a b", 0, "archive", "GET /images/get?names=a&names=b");
    check("history -H=false -q a", 0, "cdcdcdcdcdcd\n", "GET /images/a/history");
    check(
        "image prune -af",
        0,
        "Deleted Images:\ndeleted: sha256:1\n\nTotal reclaimed space: 1.5kB\n",
        "POST /images/prune?filters=%7B%22dangling%22:%7B%22false%22:true%7D%7D",
    );
    let archive = fake.world.write("x.tar", b"some archive");
    let id = format!("sha256:{}\n", "cd".repeat(32));
    check(&format!("import {archive} c:3"), 0, &id, "POST /images/create?fromSrc=-&repo=docker.io%2Flibrary%2Fc&tag=3");
    let said = fake.run(&format!("load -i {archive}"));
    assert_eq!((said.status, said.out.as_str()), (0, "Loaded image: a:1\n"));
    assert_eq!(fake.asked()[0].body, "some archive");
}

#[test]
fn what_programs_get() {
    let fake = Fake::new("1.45", one_container);
    assert!(fake.run("ps --json").out.contains(r#""Health":"healthy""#));
    assert_eq!(fake.run("port box 80").out, "0.0.0.0:8080\n");
    assert_eq!(fake.run("inspect -f {{.Config.OpenStdin}} box").out, "true\n");
    assert_eq!(fake.run("ps --format {{.Nope}}").status, 1);
}

#[test]
fn no_daemon() {
    let call = |line: &str| said(bare().args(line.split(' ')).output().unwrap());
    let nobody = call("-H unix:///none/x.sock ps");
    assert_eq!(nobody.status, 1);
    assert_eq!(
        nobody.err,
        "error: cannot connect to the daemon at unix:///none/x.sock: No such file or directory\n\
         hint: start it with gantry daemon, or say with --host where it is\n"
    );
    assert_eq!(call("-H unix:///none/x.sock run busybox").status, 125);
    assert!(call("-H ssh://x ps").err.contains("there is no ssh:// here"));
    let alone = call("-H unix:///none/x.sock version --format {{.Client.Version}}");
    assert_eq!((alone.status, alone.out.as_str()), (0, concat!(env!("CARGO_PKG_VERSION"), "\n")));
}

/// What is refused before anybody is asked.
#[test]
fn options_that_mean_nothing() {
    let fake = Fake::new("1.45", one_container);
    let check = |line: &str, status: i32, expect: &str| {
        let said = fake.run(line);
        assert_eq!(said.status, status, "{line}: {said:?}");
        assert!(said.err.contains(expect), "{line}: {}", said.err);
        assert_eq!(fake.asked().len(), 0, "{line}");
    };
    check("run --pid x busybox", 125, "gantry: --pid: invalid PID mode.\nSee 'gantry run --help'.");
    check("run -it busybox", 1, "the input device is not a TTY");
    check("run -p x busybox", 125, "invalid containerPort: x");
    check("run --frob busybox", 125, "unexpected argument '--frob'");
    check("update box", 1, "you must provide one or more flags");
    check("cp a b", 1, "must specify at least one container source");
    check("cp a:b c:d", 1, "copying between containers is not supported");
    check("volume update x", 2, "changes volumes of a cluster");
    check("network create --gateway 10.0.0.1 x", 2, "every ip-range or gateway must have a corresponding subnet");
    check("pull --all-platforms busybox", 1, "cannot do that, only Gantry's can");
}
