//! Registries: logins, and being one.

use std::io::Read;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::world::{Registry, World, bare, said, tar};

/// `someone` with the password `open sesame`.
const HTPASSWD: &str = "someone:$2y$05$DYTMj9InzFQhCXLNW8qiZOhhg/A7fKUiLhGrpjr/XjAdk4RGTMZ7i\n";

#[test]
fn logins() {
    let Some(world) = World::of_root("logins") else { return };
    let htpasswd = world.write("htpasswd", HTPASSWD.as_bytes());
    let registry = Registry::serve(&world.dir.join("registry"), &["--htpasswd", &htpasswd]);
    let host = &registry.host;
    let files = world.write("files.tar", &tar(&[("a", b"1")]));
    let name = format!("{host}/mine:1");
    world.ok(&format!("import {files} {name}"));

    let refused = world.fails(&format!("push {name}"));
    assert!(refused.starts_with("[1] ") && refused.contains("login"), "{refused}");
    let none = world.feed(&format!("login -u someone --password-stdin {host}"), b"\n");
    assert!(none.err.contains("the password is empty"), "{none:?}");
    let nobody = world.fails(&format!("login -u someone {host}"));
    assert!(nobody.contains("a password is needed") && nobody.contains("hint: give --password-stdin"), "{nobody}");

    let login = world.feed(&format!("login -u someone --password-stdin http://{host}/"), b"open sesame\n");
    assert_eq!((login.status, login.out.as_str()), (0, "Login Succeeded\n"), "{login:?}");
    world.ok(&format!("push {name}"));
    assert_eq!(world.ok(&format!("registry ls {host}")), "mine\n");
    assert_eq!(world.ok(&format!("logout {host}")), format!("Removing login credentials for {host}\n"));
    assert_eq!(world.ok(&format!("logout {host}")), format!("Not logged in to {host}\n"));
    assert!(world.fails(&format!("registry tags {host}/mine")).starts_with("[1] "));
}

#[test]
fn a_wrong_password_is_refused() {
    let world = World::new();
    let htpasswd = world.write("htpasswd", HTPASSWD.as_bytes());
    let registry = Registry::serve(&world.dir.join("registry"), &["--htpasswd", &htpasswd]);
    let host = &registry.host;
    let wrong = world.feed(&format!("login -u someone --password-stdin {host}"), b"hunter2\n");
    assert_eq!((wrong.status, wrong.out.as_str()), (1, ""));
    assert!(wrong.err.contains(&format!("log in to {host}: ")) && !wrong.err.contains("hunter2"), "{wrong:?}");
    assert!(!world.dir.join("docker/config.json").exists());
}

#[test]
fn serving() {
    let world = World::new();
    let root = world.path("registry");
    let check = |line: &str, expect: &str| {
        let said = said(bare().args(["registry", "serve", "--root", &root]).args(line.split(' ')).output().unwrap());
        assert_ne!(said.status, 0, "{line}");
        assert!(said.err.contains(expect), "{line}: {}", said.err);
    };
    check("--listen 0.0.0.0:0", "TLS");
    check("--listen here", "invalid value \"here\" for --listen");
    check("--config /none", "/none");
    check(&format!("--config {}", world.write("bad.toml", b"listne = 1")), "unknown field `listne`");
    check("--listen 127.0.0.1:0 --htpasswd /none", "/none");
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    check(&format!("--listen {}", busy.local_addr().unwrap()), "in use");
    // Two cannot have the same directory.
    let mut first = Registry::serve(&world.dir.join("registry"), &[]);
    check("--listen 127.0.0.1:0", &root);
    assert_eq!(first.stop(), Some(0));
}

/// Ctrl-C while a registry does not answer.
#[test]
fn interrupted() {
    let Some(world) = World::of_root("interrupted") else { return };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut pull = world.command(&format!("pull {}/slow", server.local_addr().unwrap()));
    let child = pull.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut connection, _) = server.accept().unwrap();
    let _ = connection.read(&mut [0; 16]).unwrap();
    #[allow(clippy::disallowed_methods, reason = "how long it takes to end is what is tested")]
    let begin = Instant::now();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let said = said(child.wait_with_output().unwrap());
    assert_eq!((said.status, said.out.as_str()), (130, ""), "{said:?}");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}
