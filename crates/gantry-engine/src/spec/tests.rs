//! What settings come to.

use super::*;
use crate::settings::{MountSetting, MountSource};
use gantry_model::oci::linux::Device;
use gantry_model::oci::spec::User;

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn place() -> Place {
    Place {
        root: "/var/lib/gantry/containers/c/root".to_owned(),
        cgroup: "/gantry/c".to_owned(),
        files: vec![("/var/lib/gantry/containers/c/hosts".to_owned(), "/etc/hosts".to_owned())],
        init: "/usr/lib/gantry/init".to_owned(),
        machine: Machine { arch: "amd64".to_owned(), kernel: (6, 1) },
        seccomp: Some(r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#.to_owned()),
        apparmor: Some("gantry-default".to_owned()),
        capabilities: strings(&["CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_KILL", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"]),
        devices: vec![Device {
            path: "/dev/kvm".to_owned(),
            kind: "c".to_owned(),
            major: 10,
            minor: 232,
            ..Device::default()
        }],
        shm: None,
    }
}

fn settings() -> Settings {
    Settings { args: strings(&["nginx", "-g", "x"]), hostname: "web".to_owned(), ..Settings::default() }
}

fn json(settings: &Settings) -> serde_json::Value {
    serde_json::to_value(build(settings, &place()).unwrap()).unwrap()
}

#[test]
fn by_default() {
    insta::assert_snapshot!("default", serde_json::to_string_pretty(&json(&settings())).unwrap());
}

#[test]
fn privileged() {
    let mut settings = settings();
    settings.security.privileged = true;
    let spec = json(&settings);
    assert_eq!(spec["linux"]["seccomp"], serde_json::Value::Null);
    assert_eq!(spec["linux"]["maskedPaths"], serde_json::Value::Null);
    assert_eq!(spec["linux"]["resources"]["devices"], serde_json::json!([{"allow": true, "access": "rwm"}]));
    assert_eq!(spec["linux"]["devices"][0]["path"], "/dev/kvm");
    assert_eq!(spec["process"]["capabilities"]["effective"].as_array().unwrap().len(), 5);
    assert_eq!(spec["process"].get("apparmorProfile"), None);
}

#[test]
fn environments() {
    let check = |env: &[&str], terminal: bool, expect: &[&str]| {
        let settings = Settings { env: strings(env), terminal, ..settings() };
        assert_eq!(environment(&settings).unwrap(), strings(expect), "{env:?}");
    };
    check(&[], false, &[defaults::PATH, "HOSTNAME=web"]);
    check(&["A=1", "PATH=/x", "A=2", "B="], true, &["PATH=/x", "HOSTNAME=web", "TERM=xterm", "A=2", "B="]);
}

#[test]
fn capabilities() {
    let check = |add: &[&str], drop: &[&str], uid: u32, expect: &[&str]| {
        let mut settings = settings();
        (settings.security.cap_add, settings.security.cap_drop) = (strings(add), strings(drop));
        settings.user = User { uid, ..User::default() };
        let found = build(&settings, &place()).unwrap().process.unwrap().capabilities.unwrap();
        assert_eq!(found.bounding, strings(expect), "{add:?} {drop:?}");
        assert_eq!(found.effective.len(), if uid == 0 { expect.len() } else { 0 });
    };
    check(&[], &["ALL", "CAP_AUDIT_WRITE"], 0, &[]);
    check(&["net_admin"], &["all"], 1000, &["CAP_NET_ADMIN"]);
    check(&["ALL"], &["ALL"], 0, &["CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_KILL", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
    check(&["sys_admin"], &["CHOWN"], 0, &["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_SYS_ADMIN"]);
}

#[test]
fn mounts() {
    let mount = |target: &str, source: MountSource, readonly: bool| MountSetting {
        target: target.to_owned(),
        readonly,
        source,
    };
    let bind =
        |path: &str| MountSource::Bind { path: path.to_owned(), propagation: String::new(), non_recursive: false };
    let mut settings = settings();
    settings.init = true;
    settings.mounts = vec![
        mount("/etc/hosts", bind("/own/hosts"), true),
        mount("/dev/shm", MountSource::Tmpfs { options: strings(&["size=1m"]) }, false),
        mount("/data/deep/", bind("/a"), false),
        mount("/data", bind("/b"), false),
    ];
    let spec = build(&settings, &place()).unwrap();
    let list: Vec<String> =
        spec.mounts.iter().map(|m| format!("{} {} {}", m.destination, m.source, m.options.join(","))).collect();
    insta::assert_snapshot!("mounts", list.join("\n"));
    assert_eq!(spec.process.unwrap().args, strings(&[INIT, "--", "nginx", "-g", "x"]));
}

fn tmpfs(target: &str) -> MountSetting {
    MountSetting { target: target.to_owned(), readonly: false, source: MountSource::Tmpfs { options: vec![] } }
}

#[test]
fn refused() {
    let check = |change: fn(&mut Settings), expect: &str| {
        let mut settings = settings();
        change(&mut settings);
        let refused = build(&settings, &place()).unwrap_err().to_string();
        assert!(refused.contains(expect), "{refused}");
    };
    check(|s| s.args.clear(), "no command specified");
    check(|s| s.args = vec![String::new()], "no command specified");
    check(|s| s.security.cap_add = vec!["NET_ADMINN".to_owned()], "NET_ADMINN");
    check(|s| s.env = vec!["=x".to_owned()], "environment variable");
    check(|s| s.working_dir = "a".to_owned(), "working directory");
    check(|s| s.working_dir = "/a/../b".to_owned(), "working directory");
    check(|s| s.security.seccomp = Filter::Profile("{".to_owned()), "seccomp");
    check(|s| (s.init, s.namespaces.pid) = (true, Namespace::Host), "conflicting");
    check(|s| s.mounts = vec![tmpfs("/")], "mount path");
    check(|s| s.mounts = vec![tmpfs("rel")], "mount path");
    check(|s| s.mounts = vec![tmpfs("/a"), tmpfs("/a/")], "duplicate mount point: /a");
}
