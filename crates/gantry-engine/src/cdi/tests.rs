//! What specifications come to.

use super::*;
use crate::request::DeviceRequest;
use crate::settings::MountSource;

fn parse(text: &str) -> Result<Document, String> {
    document::parse(text, text.starts_with('{'))
}

/// A registry of documents, each with the rank of its directory.
fn registry(documents: &[(usize, &str)]) -> Registry {
    let mut registry = Registry::default();
    let found: Vec<_> = documents
        .iter()
        .enumerate()
        .map(|(number, (priority, text))| {
            let path = PathBuf::from(format!("{number}.json"));
            (Found { path, priority: *priority }, Arc::new(parse(text).unwrap()))
        })
        .collect();
    registry.add(&found);
    registry
}

fn names(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

const GPU: &str = r#"
cdiVersion: 0.7.0
kind: nvidia.com/gpu
annotations: {by: hand}
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  deviceNodes:
  - path: /dev/nvidiactl
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args: [nvidia-cdi-hook, update-ldcache]
    env: [A=b]
    timeout: 5
  mounts:
  - hostPath: /usr/lib/libcuda.so.1
    containerPath: /usr/lib/libcuda.so.1
    options: [ro, nosuid, nodev, rbind, rprivate]
  additionalGids: [0, 44, 44]
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - {path: /dev/nvidia0, hostPath: /dev/host0, permissions: rw, fileMode: 0660, uid: 3}
    mounts:
    - {hostPath: tmpfs, containerPath: /gpu, type: tmpfs}
- name: "1"
  containerEdits:
    deviceNodes:
    - {path: /dev/nvidia1, type: c, major: 195, minor: 1}
    intelRdt: {closID: gold, l3CacheSchema: "L3:0=f"}
- name: all
  containerEdits:
    env: [X=y]
"#;

fn look(path: &str) -> Result<Device, String> {
    match path {
        "/dev/nvidiactl" | "/dev/host0" => Ok(Device {
            path: path.to_owned(),
            kind: "c".to_owned(),
            major: 195,
            minor: 255,
            file_mode: Some(0o666),
            ..Device::default()
        }),
        "/dev/pipe" => Ok(Device { kind: "p".to_owned(), ..Device::default() }),
        _ => Err("No such file or directory (os error 2)".to_owned()),
    }
}

#[test]
fn what_is_done_to_a_container() {
    let registry = registry(&[(0, GPU)]);
    assert_eq!(registry.names().collect::<Vec<_>>(), ["nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=all"]);
    let mut settings = Settings::default();
    settings.user.uid = 7;
    settings.mounts = vec![edit_target("/gpu"), edit_target("/other")];
    registry.give(&names("nvidia.com/gpu=0 nvidia.com/gpu=1"), &mut settings, &look).unwrap();
    // What is for all devices is done once.
    assert_eq!(settings.env, ["NVIDIA_VISIBLE_DEVICES=void"]);
    let devices: Vec<String> = settings
        .devices
        .iter()
        .map(|found| {
            let d = &found.device;
            format!("{} {} {}:{} {:?} {:?} {}", d.path, d.kind, d.major, d.minor, d.file_mode, d.uid, found.access)
        })
        .collect();
    let expect = [
        "/dev/nvidiactl c 195:255 Some(438) Some(7) rwm",
        "/dev/nvidia0 c 195:255 Some(432) Some(3) rw",
        "/dev/nvidia1 c 195:1 None Some(7) rwm",
    ];
    assert_eq!(devices, expect);
    let mounts: Vec<String> = settings
        .mounts
        .iter()
        .map(|mount| match &mount.source {
            MountSource::Other { kind, source, options } => {
                format!("{} {kind} {source} {}", mount.target, options.join(","))
            }
            other => format!("{} {other:?}", mount.target),
        })
        .collect();
    let expect = [
        "/other tmpfs none ",
        "/usr/lib/libcuda.so.1 bind /usr/lib/libcuda.so.1 ro,nosuid,nodev,rbind,rprivate",
        "/gpu tmpfs tmpfs ",
    ];
    assert_eq!(mounts, expect);
    let hook = &settings.hooks.create_container[0];
    assert_eq!((hook.args.join(" ").as_str(), hook.timeout), ("nvidia-cdi-hook update-ldcache", Some(5)));
    assert_eq!(settings.user.additional_gids, [44]);
    assert_eq!(settings.intel_rdt.unwrap().clos_id, "gold");
}

fn edit_target(target: &str) -> crate::settings::MountSetting {
    let source = MountSource::Other { kind: "tmpfs".to_owned(), source: "none".to_owned(), options: vec![] };
    crate::settings::MountSetting { target: target.to_owned(), readonly: false, source }
}

#[test]
fn what_cannot_be_given() {
    let bad = r#"{"cdiVersion":"0.6.0","kind":"v.com/c","devices":[
        {"name":"gone","containerEdits":{"env":["A=b"],"deviceNodes":[{"path":"/dev/gone"}]}},
        {"name":"said","containerEdits":{"deviceNodes":[{"path":"/dev/gone","type":"p"}]}},
        {"name":"pipe","containerEdits":{"deviceNodes":[{"path":"/dev/x","hostPath":"/dev/pipe","type":"c"}]}}]}"#;
    let registry = registry(&[(0, GPU), (0, bad)]);
    let check = |asked: &str, expect: &str| {
        let mut settings = Settings::default();
        let found = registry.give(&names(asked), &mut settings, &look);
        assert_eq!(found.map_or_else(|error| error.to_string(), |()| String::new()), expect, "{asked}");
        if !expect.is_empty() {
            assert_eq!(settings, Settings::default(), "{asked}");
        }
    };
    check("v.com/c=said", "");
    let unknown = "CDI device injection failed: unresolvable CDI devices v.com/c=2, w.com/c=0";
    check("nvidia.com/gpu=0 v.com/c=2 w.com/c=0", unknown);
    check("gpu=0", "invalid device \"gpu=0\": VENDOR/CLASS=NAME is meant");
    check("/dev/null", "invalid device \"/dev/null\": VENDOR/CLASS=NAME is meant");
    check("v.com/c=gone", "failed to stat CDI host device \"/dev/gone\": No such file or directory (os error 2)");
    check("v.com/c=pipe", "CDI device (\"/dev/x\", \"/dev/pipe\"), host type mismatch (c, p)");
}

#[test]
fn two_of_one_name() {
    let say = |value: &str| {
        format!(
            r#"{{"cdiVersion":"0.6.0","kind":"v.com/c","devices":[{{"name":"a","containerEdits":{{"env":["V={value}"]}}}}]}}"#
        )
    };
    let (one, two, three) = (say("1"), say("2"), say("3"));
    let check = |documents: &[(usize, &str)], expect: Option<&str>, problem: &str| {
        let registry = registry(documents);
        let mut settings = Settings::default();
        let given = registry.give(&names("v.com/c=a"), &mut settings, &look);
        assert_eq!(given.ok().map(|()| settings.env[0].as_str()), expect);
        assert_eq!(registry.problems().join("|"), problem);
    };
    check(&[(0, &one), (1, &two)], Some("V=2"), "");
    check(&[(1, &two), (0, &one)], Some("V=2"), "");
    check(&[(0, &one), (0, &two)], None, "conflicting device \"v.com/c=a\" (specs 0.json, 1.json)");
    check(&[(0, &one), (0, &two), (1, &three)], Some("V=3"), "");
}

#[test]
fn what_is_wrong_with_a_document() {
    let check = |version: &str, kind: &str, edits: &str, expect: &str| {
        let text = format!(
            r#"{{"cdiVersion":"{version}","kind":"{kind}","devices":[{{"name":"d","containerEdits":{{{edits}}}}}]}}"#
        );
        let found = parse(&text).map_or_else(|error| error, |_| String::new());
        assert!(found == expect || (!expect.is_empty() && found.contains(expect)), "{found}");
    };
    let env = r#""env":["A=b"]"#;
    for version in ["0.3.0", "0.5.0", "0.6.0", "0.8.0", "1.0.0", "1.1.0", "v0.6.0"] {
        check(version, "v.com/c", env, "");
    }
    check("0.2.0", "v.com/c", env, "invalid version \"0.2.0\"");
    check("2.0.0", "v.com/c", env, "invalid version");
    check("0.6.0", "c", env, "invalid kind \"c\"");
    check("0.6.0", "v.com/", env, "invalid kind");
    check("0.6.0", "1v.com/c", env, "invalid kind");
    check("0.6.0", "v.com/c-", env, "invalid kind");
    check("0.6.0", "v.com/c/d", env, "invalid kind");
    check("0.5.0", "v.com/c.d", env, "the spec version must be at least v0.6.0 for a dot in the class");
    check("0.6.0", "v.com/c", r#""additionalGids":[1]"#, "at least v0.7.0 for additionalGids");
    check("0.6.0", "v.com/c", r#""intelRdt":{}"#, "at least v0.7.0 for intelRdt");
    check("1.0.0", "v.com/c", r#""intelRdt":{"enableMonitoring":true}"#, "at least v1.1.0");
    check(
        "1.0.0",
        "v.com/c",
        r#""netDevices":[{"hostInterfaceName":"e","name":"f"}]"#,
        "at least v1.1.0 for netDevices",
    );
    check("0.4.0", "v.com/c", r#""deviceNodes":[{"path":"/d","hostPath":"/h"}]"#, "at least v0.5.0 for hostPath");
    check("0.3.0", "v.com/c", r#""mounts":[{"hostPath":"/a","containerPath":"/b","type":"x"}]"#, "at least v0.4.0");
    check("0.6.0", "v.com/c", "", "empty device edits");
    check("0.6.0", "v.com/c", r#""env":["=b"]"#, "invalid environment variable");
    check("0.6.0", "v.com/c", r#""deviceNodes":[{"path":"dev"}]"#, "invalid device path");
    check("0.6.0", "v.com/c", r#""deviceNodes":[{"path":"/a/../b"}]"#, "invalid device path");
    check("0.6.0", "v.com/c", r#""deviceNodes":[{"path":"/d","type":"x"}]"#, "invalid type");
    check("0.6.0", "v.com/c", r#""deviceNodes":[{"path":"/d","permissions":"rx"}]"#, "invalid permissions");
    check("0.6.0", "v.com/c", r#""mounts":[{"hostPath":"","containerPath":"/b"}]"#, "invalid mount");
    check("0.6.0", "v.com/c", r#""mounts":[{"hostPath":"/a","containerPath":"b"}]"#, "invalid mount");
    check("0.6.0", "v.com/c", r#""hooks":[{"hookName":"never","path":"/b"}]"#, "invalid hook name");
    check("0.6.0", "v.com/c", r#""hooks":[{"hookName":"poststop","path":"b"}]"#, "invalid hook \"poststop\"");
    check("0.7.0", "v.com/c", r#""intelRdt":{"closID":"a/b"}"#, "invalid ClosID");
    let twice = r#""netDevices":[{"hostInterfaceName":"e","name":"f"},{"hostInterfaceName":"e","name":"g"}]"#;
    check("1.1.0", "v.com/c", twice, "duplicate");
    check("0.6.0", "v.com/c", r#""envs":["A=b"]"#, "unknown field `envs`");
    let found = |text: &str| parse(text).unwrap_err();
    assert_eq!(found(r#"{"cdiVersion":"0.6.0","kind":"v.com/c","devices":null}"#), "invalid spec, no devices");
    let twice = r#"{"cdiVersion":"0.6.0","kind":"v.com/c","devices":[
        {"name":"a","containerEdits":{"env":["A=b"]}},{"name":"a","containerEdits":{"env":["A=b"]}}]}"#;
    assert_eq!(found(twice), "invalid spec, multiple device \"a\"");
    assert_eq!(found("a: *b\n"), found("a: *b\n"));
}

#[test]
fn requests() {
    let amd = "cdiVersion: 0.6.0\nkind: amd.com/gpu\ndevices: [{name: all, containerEdits: {env: [A=b]}}]\n";
    let (nvidia, both) = (registry(&[(0, GPU)]), registry(&[(0, amd), (0, GPU)]));
    let (amd, none) = (registry(&[(0, amd)]), Registry::default());
    let request = |driver: &str, capabilities: &str, count: i64, ids: &str| DeviceRequest {
        driver: driver.to_owned(),
        capabilities: if capabilities.is_empty() { vec![] } else { vec![names(capabilities)] },
        count,
        ids: names(ids),
        ..DeviceRequest::default()
    };
    let check = |registry: &Registry, request: DeviceRequest, expect: &str| {
        let found = registry.resolve(&request).map_or_else(|error| error.to_string(), |names| names.join(" "));
        assert_eq!(found, expect, "{request:?}");
    };
    check(&nvidia, request("", "gpu", -1, ""), "nvidia.com/gpu=all");
    check(&nvidia, request("", "gpu utility", 2, ""), "nvidia.com/gpu=0 nvidia.com/gpu=1");
    check(&nvidia, request("nvidia", "", 0, "1 nvidia.com/gpu=0"), "nvidia.com/gpu=1 nvidia.com/gpu=0");
    check(&nvidia, request("", "gpu", 0, ""), "");
    check(&both, request("", "gpu", -1, ""), "nvidia.com/gpu=all");
    check(&both, request("", "amd gpu", -1, ""), "amd.com/gpu=all");
    check(&amd, request("", "gpu", -1, ""), "amd.com/gpu=all");
    check(&none, request("", "gpu", -1, ""), "could not select device driver \"\" with capabilities: [[gpu]]");
    check(&amd, request("nvidia", "", 1, ""), "could not select device driver \"nvidia\" with capabilities: []");
    check(&nvidia, request("", "tpu", 1, ""), "could not select device driver \"\" with capabilities: [[tpu]]");
    check(&nvidia, request("", "gpu", 1, "0"), "cannot set both Count and DeviceIDs on device request");
    check(&nvidia, request("", "gpu", 1 << 40, ""), "too many devices are asked for");
    check(&none, request("cdi", "", 0, "a/b=c"), "a/b=c");
    check(&none, request("cdi", "", 1, "a/b=c"), "unexpected count in CDI device request");
}

#[test]
fn from_directories() {
    let dir = std::env::temp_dir().join(format!("gantry-cdi-{}", std::process::id()));
    fs::create_dir_all(dir.join("a/sub.yaml")).unwrap();
    fs::write(dir.join("a/gpu.yaml"), GPU).unwrap();
    fs::write(dir.join("a/broken.json"), "{").unwrap();
    fs::write(dir.join("a/other.txt"), "x").unwrap();
    let registry = Registry::read(&[dir.join("a"), dir.join("none")]);
    fs::remove_dir_all(&dir).unwrap();
    assert_eq!(registry.names().count(), 3);
    let problems: Vec<String> =
        registry.problems().iter().map(|problem| problem.replace(&dir.display().to_string(), "DIR")).collect();
    let expect = [
        "failed to load CDI Spec DIR/a/broken.json: EOF while parsing an object at line 1 column 1",
        "failed to load CDI Spec DIR/a/sub.yaml: it is no file",
    ];
    assert_eq!(problems, expect);
    assert_eq!(host_device("/dev/null").unwrap().major, 1);
    assert_eq!(host_device("/etc/passwd"), Err("not a device node".to_owned()));
}
