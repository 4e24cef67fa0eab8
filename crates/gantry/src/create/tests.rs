//! Options as data, and the documents that they make.

use serde_json::{Value, json};

use super::plan;
use super::testing::{create, outside};

/// What differs from the document of no options at all, as `PATH=VALUE` in the order of paths.
fn differs(path: &str, plain: &Value, other: &Value, out: &mut Vec<String>) {
    match (plain, other) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let none = Value::Null;
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                differs(&path, a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none), out);
            }
        }
        (a, b) if a == b => {}
        (_, b) => out.push(format!("{}={b}", path.replace("HostConfig.", "/"))),
    }
}

fn check(line: &str, expect: &str) {
    let plain = plan(&create(""), false, &outside()).unwrap().body;
    let got = match plan(&create(line), false, &outside()) {
        Ok(plan) => {
            let mut out = Vec::new();
            differs("", &plain, &plan.body, &mut out);
            out.join(" ")
        }
        Err(why) => format!("!{why}"),
    };
    assert_eq!(got, expect, "{line}");
}

#[test]
fn nothing_asked() {
    let plan = plan(&create(""), false, &outside()).unwrap();
    assert_eq!(plan.attach, [false, true, true]);
    assert_eq!(plan.body["Image"], "image");
    assert_eq!(plan.body["Cmd"], Value::Null);
    assert_eq!(plan.body["HostConfig"]["NetworkMode"], "default");
    assert_eq!(plan.body["HostConfig"]["RestartPolicy"], json!({"Name": "no", "MaximumRetryCount": 0}));
    assert_eq!(plan.body["HostConfig"]["MemorySwappiness"], -1);
}

#[test]
fn general() {
    check("-it", "AttachStdin=true OpenStdin=true StdinOnce=true Tty=true");
    check("-i -a stdout", "AttachStderr=false AttachStdin=true OpenStdin=true StdinOnce=true");
    check("--rm --init", "/AutoRemove=true /Init=true");
    check("--init=false", "/Init=false");
    check("-e A=1 -e HOME --env-file env", r#"Env=["A=1","A=1","HOME=/root"]"#);
    check(
        "--entrypoint sh -w /x -u 1:2 --group-add 5",
        r#"Entrypoint=["sh"] /GroupAdd=["5"] User="1:2" WorkingDir="/x""#,
    );
    check("--entrypoint=", r#"Entrypoint=[""]"#);
    check("-l a=b --label c", r#"Labels.a="b" Labels.c="""#);
    check("--annotation a=b", r#"/Annotations={"a":"b"}"#);
    check("--restart on-failure:3", r#"/RestartPolicy.MaximumRetryCount=3 /RestartPolicy.Name="on-failure""#);
    check("--stop-signal INT --stop-timeout 0", r#"StopSignal="INT" StopTimeout=0"#);
    check(
        "--log-driver json-file --log-opt max-size=1m",
        r#"/LogConfig.Config.max-size="1m" /LogConfig.Type="json-file""#,
    );
    check("--runtime crun", r#"/Runtime="crun""#);
    check("--cidfile /tmp/x", r#"/ContainerIDFile="/tmp/x""#);
    check("-h me --domainname example.org", r#"Domainname="example.org" Hostname="me""#);
}

#[test]
fn files_and_ports() {
    check("-v a:/a -v /b", r#"/Binds=["a:/a"] Volumes./b={}"#);
    check("-v ./x:/x:ro", r#"/Binds=["/here/x:/x:ro"]"#);
    check("--mount src=a,dst=/a", r#"/Mounts=[{"Source":"a","Target":"/a","Type":"volume"}]"#);
    check("--tmpfs /t:size=1m --tmpfs /u", r#"/Tmpfs={"/t":"size=1m","/u":""}"#);
    check(
        "--volumes-from a:ro --volume-driver d --storage-opt size=1g",
        r#"/StorageOpt={"size":"1g"} /VolumeDriver="d" /VolumesFrom=["a:ro"]"#,
    );
    check("--read-only --shm-size 1g", "/ReadonlyRootfs=true /ShmSize=1073741824");
    check(
        "-p 80:80 -P --expose 53/udp",
        r#"ExposedPorts={"53/udp":{},"80/tcp":{}} /PortBindings.80/tcp=[{"HostIp":"","HostPort":"80"}] /PublishAllPorts=true"#,
    );
    check(
        "--dns 1.1.1.1 --dns-search x.org --dns-option ndots:2",
        r#"/Dns=["1.1.1.1"] /DnsOptions=["ndots:2"] /DnsSearch=["x.org"]"#,
    );
    check("--add-host a=1.2.3.4 --link db:d", r#"/ExtraHosts=["a:1.2.3.4"] /Links=["db:d"]"#);
    check(
        "--mac-address 92:d0:c6:0a:29:33",
        r#"NetworkingConfig.EndpointsConfig.default.MacAddress="92:d0:c6:0a:29:33""#,
    );
}

#[test]
fn security_and_limits() {
    check(
        "--privileged --cap-add NET_ADMIN --cap-drop ALL",
        r#"/CapAdd=["NET_ADMIN"] /CapDrop=["ALL"] /Privileged=true"#,
    );
    check("--security-opt systempaths=unconfined", "/MaskedPaths=[] /ReadonlyPaths=[]");
    check("--pid host --ipc container:x --uts host", r#"/IpcMode="container:x" /PidMode="host" /UTSMode="host""#);
    check(
        "--userns auto --cgroupns private --sysctl net.a=1",
        r#"/CgroupnsMode="private" /Sysctls={"net.a":"1"} /UsernsMode="auto""#,
    );
    check("-m 64m --memory-swap -1 --memory-swappiness 0", "/Memory=67108864 /MemorySwap=-1 /MemorySwappiness=0");
    check("--cpus 1.5 -c 512 --cpuset-cpus 0-1", r#"/CpuShares=512 /CpusetCpus="0-1" /NanoCpus=1500000000"#);
    check(
        "--pids-limit -1 --oom-kill-disable --oom-score-adj -5",
        "/OomKillDisable=true /OomScoreAdj=-5 /PidsLimit=-1",
    );
    check("--ulimit core=0", r#"/Ulimits=[{"Hard":0,"Name":"core","Soft":0}]"#);
    check("--device /dev/fuse --device v.com/g=1 --device-cgroup-rule a", "!invalid device cgroup format 'a'");
    check(
        "--device v.com/g=1",
        r#"/DeviceRequests=[{"Capabilities":null,"Count":0,"DeviceIDs":["v.com/g=1"],"Driver":"cdi","Options":null}]"#,
    );
    check("--no-healthcheck", r#"Healthcheck={"Test":["NONE"]}"#);
}

#[test]
fn what_is_refused() {
    check(
        "-a stdfoo",
        "!invalid argument \"stdfoo\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR",
    );
    check("--rm --restart always", "!conflicting options: cannot specify both --restart and --rm");
    check("--pid x", "!--pid: invalid PID mode");
    check("--pid container:", "!--pid: invalid PID mode");
    check("--userns x", "!--userns: invalid USER mode");
    check("--isolation hyperv", "!--isolation hyperv: only Windows has it");
    check("--memory x", "!invalid argument \"x\" for \"--memory\" flag: invalid size: 'x'");
    check("--memory-swappiness 200", "!invalid value: 200. Valid memory swappiness range is 0-100");
    check("--mount x", "!invalid argument \"x\" for \"--mount\" flag: invalid field 'x' must be a key=value pair");
    check("--log-driver none --log-opt a=b", "!invalid logging opts for driver none");
    let detached = plan(&create("-a stdout"), true, &outside());
    assert_eq!(detached.unwrap_err(), "conflicting options: cannot specify both --attach and --detach");
}

#[test]
fn warnings() {
    let warned = |line: &str| plan(&create(line), false, &outside()).unwrap().warnings.len();
    assert_eq!(
        (warned(""), warned("--dns 127.0.0.1"), warned("--oom-kill-disable"), warned("--oom-kill-disable -m 1g")),
        (0, 1, 1, 0)
    );
}
