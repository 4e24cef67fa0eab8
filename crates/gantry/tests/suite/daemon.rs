//! The daemon as whoever runs it sees it: its doors, its numbers, its registry, and what it makes of a configuration that
//! changes.

#![allow(clippy::unwrap_used, reason = "a test ends where its place cannot be made")]

use std::sync::Arc;

use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::daemon_kit::{Daemon, exchange, over_tcp, over_unix};
use crate::tls::{Issuer, authority, certificate};
use crate::world::{bare, said};

/// Writes the files of a daemon's TLS, and gives the authorities of daemon and clients.
fn certificates(daemon: &Daemon) -> (Issuer, Issuer) {
    let (daemons, clients) = (authority(), authority());
    let (own, key) = certificate(&daemons, "127.0.0.1");
    daemon.write("ca.pem", &daemons.pem());
    daemon.write("clients.pem", &clients.pem());
    daemon.write("server.pem", &own.pem());
    daemon.write("server-key.pem", &key.serialize_pem());
    let (own, key) = certificate(&clients, "me");
    daemon.write("cert.pem", &own.pem());
    daemon.write("key.pem", &key.serialize_pem());
    (daemons, clients)
}

/// What a client gets for a request over TCP that shows a certificate of an authority, or none.
fn by_tls(daemon: &Daemon, port: u16, trusted: &Issuer, own: Option<&Issuer>) -> Result<String, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(trusted.der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some(issuer) => {
            let (certificate, key) = certificate(issuer, "me");
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
        }
    };
    let ask = move || {
        let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("127.0.0.1").unwrap()).unwrap();
        let stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        exchange(StreamOwned::new(connection, stream), "GET /_ping").map_err(|error| error.to_string())
    };
    daemon.inside(ask).join().unwrap()
}

#[test]
fn over_tcp_it_is_served_by_mutual_tls_alone() {
    let Some(place) = Daemon::place("over_tcp_it_is_served_by_mutual_tls_alone") else { return };
    place.write("config.toml", "");
    let refused = |flags: &[&str], expect: &str| {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let said = said(place.command(env!("CARGO_BIN_EXE_gantry").as_ref(), &flags).output().unwrap());
        assert!(said.status != 0 && said.err.contains(expect), "{flags:?}: {said:?}");
    };
    refused(&["--host", "tcp://127.0.0.1:0"], "by mutual TLS alone");
    refused(&["--host", "tcp://127.0.0.1:0"], "--tls-ca");
    refused(&["--host", "tcp://127.0.0.1:0", "--tls-cert", "/x"], "belong together");
    refused(&["--host", "tcp://127.0.0.1:0", "--tls-ca", "/n", "--tls-cert", "/n", "--tls-key", "/n"], "/n");
    refused(&["--metrics", "0.0.0.0:0"], "would tell everybody");
    drop(place);

    let Some(mut daemon) = Daemon::place("over_tcp_it_is_served_by_mutual_tls_alone") else { return };
    let (daemons, clients) = certificates(&daemon);
    let tls = |name: &str| daemon.path(name);
    let text = format!(
        "[daemon]\nlisten = ['tcp://127.0.0.1:0']\n[daemon.tls]\nca = '{}'\ncertificate = '{}'\nkey = '{}'\n",
        tls("clients.pem"),
        tls("server.pem"),
        tls("server-key.pem")
    );
    daemon.write("config.toml", &text);
    daemon.start();
    let port = daemon.port("answers at tcp://");
    let good = by_tls(&daemon, port, &daemons, Some(&clients)).unwrap();
    assert!(good.starts_with("HTTP/1.1 200") && good.ends_with("OK"), "{good}");
    // Whether a client is told why depends on who is faster.
    let nobody = by_tls(&daemon, port, &daemons, None);
    assert!(nobody.is_err(), "{nobody:?}");
    let stranger = by_tls(&daemon, port, &daemons, Some(&daemons));
    assert!(stranger.is_err(), "{stranger:?}");
    let plain = daemon.inside(move || over_tcp(&format!("127.0.0.1:{port}"), "GET /_ping")).join().unwrap();
    assert!(!plain.unwrap_or_default().contains("200"), "a client without TLS got an answer");
    // Somebody who says nothing is in nobody's way.
    let silent = daemon.inside(move || std::net::TcpStream::connect(("127.0.0.1", port)).unwrap()).join().unwrap();
    assert!(by_tls(&daemon, port, &daemons, Some(&clients)).is_ok());
    drop(silent);
    let mut command = bare();
    let host = format!("tcp://127.0.0.1:{port}");
    command.args(["-H", &host, "--tlsverify", "info", "--format", "{{.ID}}"]).env("DOCKER_CERT_PATH", &daemon.dir);
    let ours = said(daemon.inside(move || command.output().unwrap()).join().unwrap());
    assert_eq!((ours.status, ours.out), (0, daemon.ok(&["info", "--format", "{{.ID}}"])), "{}", ours.err);

    // Other clients from now on, without an end between.
    let others = authority();
    daemon.write("clients.pem", &others.pem());
    daemon.signal(Signal::HUP);
    daemon.until_logged("was read again", 1);
    assert!(by_tls(&daemon, port, &daemons, Some(&others)).is_ok());
    assert!(by_tls(&daemon, port, &daemons, Some(&clients)).is_err());
    // A damaged file changes nothing.
    daemon.write("server-key.pem", "no key");
    daemon.signal(Signal::HUP);
    daemon.until_logged("stays as it was", 1);
    assert!(by_tls(&daemon, port, &daemons, Some(&others)).is_ok());
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_configuration_that_changes_is_in_force_without_a_restart() {
    let test = "a_configuration_that_changes_is_in_force_without_a_restart";
    let Some(mut daemon) = Daemon::started(test, "", &["--log-format", "json"]) else { return };
    daemon.import();
    let driver = |name: &str| {
        daemon.ok(&["create", "--name", name, "busybox", "true"]);
        daemon.ok(&["inspect", "--format", "{{.HostConfig.LogConfig.Type}}", name]).trim().to_owned()
    };
    assert_ne!(driver("first"), "none");
    assert!(!daemon.log().contains("DEBUG"), "{}", daemon.log());
    let text = "[daemon]\nlog_driver = 'none'\nlog_level = 'debug'\nmetrics = '127.0.0.1:0'\ncgroup_parent = 'x'\n\
                group = 'nobody'\n[registry.'docker.io']\nmirrors = ['https://mirror.test']\n";
    daemon.write("config.toml", text);
    daemon.signal(Signal::HUP);
    daemon.until_logged("was read again", 1);
    assert_eq!(driver("second"), "none");
    assert!(daemon.log().contains("\"level\":\"DEBUG\""), "{}", daemon.log());
    assert!(daemon.log().contains("gantry daemon --replace: daemon.group"), "{}", daemon.log());
    let events = daemon.ok(&["events", "--since", "1", "--until", "0s", "--filter", "type=daemon", "--format", "json"]);
    let event: serde_json::Value = serde_json::from_str(events.trim()).unwrap();
    assert_eq!(event["Action"], "reload");
    assert_eq!(event["Actor"]["Attributes"]["default-log-driver"], "none");
    assert_eq!(event["Actor"]["Attributes"]["registry-mirrors"], "[\"https://mirror.test\"]");
    // What is wrong changes nothing, and is said.
    daemon.write("config.toml", "[daemon]\nlog_driver = 'json-file'\nlog_lvel = 'trace'\n");
    daemon.signal(Signal::HUP);
    daemon.until_logged("stays as it was", 1);
    assert!(daemon.log().contains("unknown field `log_lvel`"), "{}", daemon.log());
    assert_eq!(driver("third"), "none");
    for line in daemon.log().lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "no JSON: {line}");
    }
    assert_eq!(daemon.stop(), Some(0));
}

/// The value of a sample.
fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[test]
fn numbers_are_told_to_prometheus() {
    let test = "numbers_are_told_to_prometheus";
    let Some(daemon) = Daemon::started(test, "", &["--metrics", "127.0.0.1:0"]) else { return };
    daemon.import();
    daemon.until_logged("metrics are at", 1);
    let address = format!("127.0.0.1:{}", daemon.port("metrics are at tcp://"));
    daemon.ok(&[
        "run",
        "-d",
        "--name",
        "one",
        "--health-cmd",
        "true",
        "--health-interval",
        "200ms",
        "busybox",
        "sleep",
        "600",
    ]);
    daemon.ok(&["run", "--name", "two", "busybox", "true"]);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let read = |path: &'static str| {
        let address = address.clone();
        daemon.inside(move || over_tcp(&address, path).unwrap()).join().unwrap()
    };
    let text = read("GET /metrics");
    let is = |name: &str, expect: f64| assert_eq!(sample(&text, name), Some(expect), "{name}\n{text}");
    is("engine_daemon_container_states_containers{state=\"running\"}", 1.0);
    is("engine_daemon_container_states_containers{state=\"stopped\"}", 1.0);
    is("engine_daemon_container_actions_seconds_count{action=\"create\"}", 2.0);
    is("engine_daemon_container_actions_seconds_count{action=\"start\"}", 2.0);
    is("engine_daemon_container_actions_seconds_count{action=\"delete\"}", 0.0);
    is("engine_daemon_health_checks_failed_total", 0.0);
    let more = |name: &str, least: f64| {
        assert!(sample(&text, name).is_some_and(|value| value >= least), "{name}\n{text}");
    };
    more("engine_daemon_health_checks_total", 2.0);
    more("engine_daemon_events_total", 5.0);
    more("engine_daemon_engine_cpus_cpus", 1.0);
    more("process_resident_memory_bytes", 1e6);
    let id = daemon.ok(&["ps", "-q"]);
    let labels = format!("{{id=\"{}\",name=\"one\"}}", id.trim());
    more(&format!("gantry_container_memory_usage_bytes{labels}"), 1.0);
    more(&format!("gantry_container_cpu_seconds_total{labels}"), 0.000_001);
    is(&format!("gantry_container_healthy{labels}"), 1.0);
    is(&format!("gantry_container_restarts_total{labels}"), 0.0);
    for line in text.split("\r\n\r\n").nth(1).unwrap().lines() {
        let good = line.starts_with("# HELP ") || line.starts_with("# TYPE ") || {
            let (name, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().is_ok() && name.starts_with(|c: char| c.is_ascii_lowercase())
        };
        assert!(good, "{line}");
    }
    assert!(read("GET /containers/json").starts_with("HTTP/1.1 404"), "the API is served where numbers are");
    assert!(read("POST /metrics").starts_with("HTTP/1.1 405"));
}

#[test]
fn a_registry_runs_in_the_daemon() {
    let test = "a_registry_runs_in_the_daemon";
    let Some(mut daemon) = Daemon::started(test, "[daemon.registry]\nlisten = '127.0.0.1:0'\n", &[]) else { return };
    daemon.import();
    let port = daemon.port("answers at tcp://");
    let name = format!("localhost:{port}/busybox");
    daemon.ok(&["tag", "busybox", &name]);
    daemon.ok(&["push", &name]);
    daemon.ok(&["rmi", &name]);
    daemon.ok(&["pull", &name]);
    assert!(daemon.dir.join("root/registry").is_dir(), "its content is not below the daemon's root");
    assert_eq!(daemon.stop(), Some(0));
    // The same rules as for a registry by itself.
    daemon.write("config.toml", "[daemon.registry]\nlisten = '0.0.0.0:0'\n");
    let said = said(daemon.command(env!("CARGO_BIN_EXE_gantry").as_ref(), &[]).output().unwrap());
    assert!(said.status != 0 && said.err.contains("[daemon.registry]"), "{said:?}");
}

#[test]
fn requests_end_and_followers_are_let_go_when_the_daemon_ends() {
    let test = "requests_end_and_followers_are_let_go_when_the_daemon_ends";
    let Some(mut daemon) = Daemon::started(test, "", &[]) else { return };
    daemon.import();
    daemon.ok(&["run", "-d", "--name", "one", "busybox", "sleep", "600"]);
    let follow = |what: &'static str| {
        let socket = daemon.dir.join("s");
        std::thread::spawn(move || over_unix(&socket, what))
    };
    let events = follow("GET /events");
    let log = follow("GET /containers/one/logs?stdout=1&follow=1");
    let wait = follow("POST /containers/one/wait");
    // One that takes a while is done: the container does not end by itself, and is killed after two seconds.
    let stop = follow("POST /containers/one/stop?t=2");
    std::thread::sleep(std::time::Duration::from_millis(500));
    let began = std::time::Instant::now();
    assert_eq!(daemon.stop(), Some(0));
    assert!(began.elapsed() < std::time::Duration::from_secs(8), "it took {:?}", began.elapsed());
    assert!(events.join().unwrap().unwrap().ends_with("0\r\n\r\n"), "events were cut off");
    assert!(log.join().unwrap().unwrap().ends_with("0\r\n\r\n"), "the log was cut off");
    assert!(stop.join().unwrap().unwrap().starts_with("HTTP/1.1 204"));
    let told = wait.join().unwrap().unwrap();
    assert!(told.contains("\"StatusCode\""), "{told}");
    daemon.start();
    daemon.ok(&["rm", "-f", "one"]);
}

#[test]
fn a_bundle_tells_what_is_known_and_no_secrets() {
    let test = "a_bundle_tells_what_is_known_and_no_secrets";
    let Some(daemon) = Daemon::started(test, "", &[]) else { return };
    daemon.import();
    daemon.ok(&[
        "run",
        "-d",
        "--name",
        "one",
        "-e",
        "WORD=hunter2",
        "-l",
        "db.password=hunter3",
        "busybox",
        "sleep",
        "600",
    ]);
    let text = format!("proxy = 'http://me:hunter4@127.0.0.1:1'\n[daemon]\nrun = '{}'\n", daemon.path("run"));
    daemon.write("config.toml", &text);
    let (config, archive) = (daemon.path("config.toml"), daemon.path("bundle.tar.gz"));
    let said = daemon.ok(&["--config", &config, "debug", "bundle", "-o", &archive]);
    assert!(said.contains("bundle.tar.gz"), "{said}");
    let tar = |args: &[&str]| {
        let output = std::process::Command::new("tar").args(args).arg("-f").arg(&archive).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (names, all) = (tar(&["-tz"]), tar(&["-xzO"]));
    for expect in [
        "/version.txt",
        "/config.toml",
        "/daemon/info.json",
        "/daemon/df.json",
        "/daemon/events.json",
        "/daemon/containers/",
        "/daemon/process/threads.txt",
        "/daemon/process/status",
        "/host/proc/self/mountinfo",
        "/failures.txt",
    ] {
        assert!(names.contains(expect), "{expect} is not in {names}");
    }
    assert!(all.contains("WORD=(redacted)") && all.contains("\"Image\": \"busybox\""), "the inspection is not there");
    for secret in ["hunter2", "hunter3", "hunter4"] {
        assert!(!all.contains(secret), "{secret} is in the bundle");
    }
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&archive).unwrap().permissions()) & 0o777,
        0o600
    );
}
