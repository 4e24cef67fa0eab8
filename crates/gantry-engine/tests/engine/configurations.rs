//! What the runtime makes of configurations that the engine builds: the real one, with a root file system of busybox.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gantry_engine::cdi;
use gantry_engine::profiles::Machine;
use gantry_engine::settings::{
    DeviceSetting, Filter, Mapping, MountSetting, MountSource, Namespace, Namespaces, Reach, Settings,
};
use gantry_engine::spec::{self, Place, host, options};
use gantry_engine::userns::{self, Ranges};
use gantry_store::Store;
use rustix::fs::{CWD, Gid, Uid, chown};
use rustix::mount::MoveMountFlags;

/// The first id of user namespaces.
const HOST_ID: u32 = 1 << 20;

/// A bundle, removed with what runs in it.
struct Bundle {
    dir: PathBuf,
    id: String,
}

impl Bundle {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("gc{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&id);
        for below in ["root/bin", "root/proc", "root/sys", "root/dev", "root/tmp", "root/data", "data"] {
            std::fs::create_dir_all(dir.join(below)).unwrap();
        }
        std::fs::copy("/bin/busybox", dir.join("root/bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", dir.join("root/bin/sh")).unwrap();
        Self { dir, id }
    }

    fn oci(&self) -> Command {
        let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("gantry-oci");
        assert!(program.exists(), "{} is missing: cargo build -p gantry-oci", program.display());
        let mut command = Command::new(program);
        command.arg("--root").arg(self.dir.join("state"));
        command
    }

    /// Runs a line of shell: what it wrote, and what the runtime did.
    fn run(&self, line: &str, change: impl FnOnce(&mut Settings, &mut Place)) -> String {
        let args = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
        let namespaces = Namespaces { cgroup: Namespace::Own, ..Namespaces::default() };
        let mut settings = Settings { args, namespaces, hostname: "c".to_owned(), ..Settings::default() };
        let mut place = Place {
            root: self.dir.join("root").display().to_string(),
            cgroup: format!("/{}", self.id),
            machine: Machine::here(),
            capabilities: host::capabilities().unwrap(),
            masked: host::telling(),
            sysctls: host::sysctls(),
            ..Place::default()
        };
        change(&mut settings, &mut place);
        let spec = spec::build(&settings, &place).unwrap();
        std::fs::write(self.dir.join("config.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
        let output = self.oci().args(["run", "--bundle"]).arg(&self.dir).arg(&self.id).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        text.trim().to_owned()
    }

    fn bind(&self) -> Vec<MountSetting> {
        let path = self.dir.join("data").display().to_string();
        let (propagation, reach) = (String::new(), Reach::Deep);
        let source = MountSource::Bind { path, propagation, non_recursive: false, reach };
        vec![MountSetting { target: "/data".to_owned(), readonly: false, source }]
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.oci().args(["delete", "--force", &self.id]).output();
        for below in ["data", "mnt"] {
            let _ = rustix::mount::unmount(self.dir.join(below), rustix::mount::UnmountFlags::DETACH);
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A process in a network namespace of its own, for others to join.
struct Network(Child);

impl Network {
    fn new() -> Self {
        // It says when it is there.
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-c", "echo; exec sleep 60"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        Self(child)
    }

    fn path(&self) -> Namespace {
        Namespace::Path(format!("/proc/{}/ns/net", self.0.id()))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn by_default() {
    let bundle = Bundle::new();
    let line = "busybox id -u; busybox cat /proc/sys/net/ipv4/ip_unprivileged_port_start; busybox unshare -m true \
        2>&1; busybox grep Seccomp: /proc/self/status; busybox ls /sys/firmware";
    let found = bundle.run(line, |_, _| {});
    assert_eq!(found, "0\n0\nunshare: unshare(0x20000): Operation not permitted\nSeccomp:\t2");
}

#[test]
fn with_capabilities_the_filter_opens() {
    let bundle = Bundle::new();
    let line = "busybox unshare -m true && busybox grep Seccomp: /proc/self/status";
    let found = bundle.run(line, |settings, _| settings.security.cap_add = vec!["SYS_ADMIN".to_owned()]);
    assert_eq!(found, "Seccomp:\t2");
    let found = bundle.run(line, |settings, _| {
        settings.security.cap_add = vec!["SYS_ADMIN".to_owned()];
        settings.security.seccomp = Filter::Unconfined;
    });
    assert_eq!(found, "Seccomp:\t0");
}

#[test]
fn privileged() {
    let bundle = Bundle::new();
    let found = bundle.run(
        "test -w /sys/kernel && busybox ls /dev/null /dev/console /dev/ptmx 2>/dev/null; echo $?",
        |s, p| {
            s.security.privileged = true;
            p.devices = host::devices();
        },
    );
    assert_eq!(found, "/dev/null\n/dev/ptmx\n1");
}

#[test]
fn devices() {
    let bundle = Bundle::new();
    let line = "echo x > /dev/mine && echo written; busybox head -c1 /dev/mine; busybox stat -c %a:%t:%T /dev/mine";
    let found = bundle.run(line, |settings, _| {
        let mapping = gantry_engine::request::DeviceMapping {
            host: "/dev/null".to_owned(),
            container: "/dev/mine".to_owned(),
            permissions: "rw".to_owned(),
        };
        let devices: Vec<DeviceSetting> = host::mapped(&mapping).unwrap();
        settings.devices = devices;
    });
    assert_eq!(found, "written\n666:1:3");
}

#[test]
fn devices_that_may_only_be_read() {
    let bundle = Bundle::new();
    let line = "busybox head -c 2 /dev/mine | busybox wc -c; busybox mknod /tmp/zero c 1 5; busybox mknod /tmp/mem c 1 1; \
        for dev in /dev/mine /tmp/zero /tmp/mem; do echo x > $dev && echo $dev; done 2>/dev/null";
    let found = bundle.run(line, |settings, _| {
        let zero = |access: &str| gantry_engine::request::DeviceMapping {
            host: "/dev/zero".to_owned(),
            container: "/dev/mine".to_owned(),
            permissions: access.to_owned(),
        };
        settings.devices = host::mapped(&zero("r")).unwrap();
        let (major, minor) = (7, 0x1234);
        settings.devices[0].device.major = 1;
        settings.device_rules = vec![options::device_rule(&format!("b {major}:{minor} w")).unwrap()];
    });
    // What all containers may use stays theirs, and other devices can be made, but not used.
    assert_eq!(found, "2\n/dev/mine\n/tmp/zero");
}

/// What is mounted below a shared mount outside is seen inside.
#[test]
fn mounts_are_handed_on() {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    let bundle = Bundle::new();
    let data = bundle.dir.join("data");
    let shared = mount("tmpfs", &data, "tmpfs", MountFlags::empty(), None)
        .and_then(|()| mount_change(&data, MountPropagationFlags::SHARED));
    let mut found = Vec::new();
    for propagation in ["rshared", "rslave", ""] {
        let line = "busybox grep ' /data ' /proc/self/mountinfo | busybox grep -c -E '(shared|master):'";
        found.push(bundle.run(line, |settings, _| {
            settings.mounts = bundle.bind();
            if let MountSource::Bind { propagation: mode, .. } = &mut settings.mounts[0].source {
                propagation.clone_into(mode);
            }
            let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            spec::check_propagation(settings, &mountinfo).unwrap();
        }));
    }
    shared.unwrap();
    assert_eq!(found, ["1", "1", "0"]);
}

#[test]
fn devices_of_vendors() {
    let bundle = Bundle::new();
    let (dir, hook) = (bundle.dir.join("cdi"), bundle.dir.join("hooked"));
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!(
        "cdiVersion: 0.6.0\nkind: test.org/gpu\ndevices:\n- name: one\n  containerEdits:\n    env: [GPU=one]\n    \
         deviceNodes:\n    - {{path: /dev/gpu0, hostPath: /dev/null}}\n    mounts:\n    - {{hostPath: {0}, \
         containerPath: /gpu, options: [ro]}}\n    hooks:\n    - {{hookName: createRuntime, path: /bin/touch, \
         args: [touch, {1}]}}\n",
        bundle.dir.join("root/bin").display(),
        hook.display(),
    );
    std::fs::write(dir.join("gpu.yaml"), text).unwrap();
    let registry = cdi::Registry::read(&[dir]);
    assert_eq!((registry.names().collect::<Vec<_>>(), registry.problems()), (vec!["test.org/gpu=one"], &[][..]));
    let line =
        "echo $GPU; echo x > /dev/gpu0 && echo written; busybox ls /gpu; busybox touch /gpu/x 2>/dev/null || echo ro";
    let found = bundle.run(line, |settings, _| {
        registry.give(&["test.org/gpu=one".to_owned()], settings, &cdi::host_device).unwrap();
    });
    assert_eq!(found, "one\nwritten\nbusybox\nsh\nro");
    assert!(hook.exists());
}

/// In a user namespace root is nobody outside, and what it writes to a mount is root's outside all the same.
#[test]
fn user_namespaces() {
    let bundle = Bundle::new();
    let network = Network::new();
    let line = "busybox id -u; busybox cat /proc/self/uid_map; echo hi > /data/file && busybox stat -c %u:%g /data/file; \
        busybox cat /sys/class/net/lo/ifindex; busybox cat /proc/net/dev | busybox grep -c :; : > /dev/null && echo null";
    // As its snapshot is mounted for it.
    for below in ["", "bin", "bin/busybox", "proc", "sys", "dev", "tmp", "data"] {
        let (uid, gid) = (Uid::from_raw(HOST_ID), Gid::from_raw(HOST_ID));
        chown(bundle.dir.join("root").join(below), Some(uid), Some(gid)).unwrap();
    }
    for own in [true, false] {
        let found = bundle.run(line, |settings, _| {
            settings.user_namespace = Some(Mapping { host_id: HOST_ID, size: 65_536, join: None });
            settings.mounts = bundle.bind();
            if !own {
                settings.namespaces.network = network.path();
            }
        });
        let found: Vec<String> =
            found.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(found, ["0", "0 1048576 65536", "0:0", "1", "1", "null"], "own network: {own}");
        let file = bundle.dir.join("data/file");
        assert_eq!(std::fs::metadata(&file).unwrap().uid(), 0);
        std::fs::remove_file(file).unwrap();
    }
}

/// A snapshot for a user namespace: root inside owns its files, and what it writes is root's on the disk too.
#[test]
fn snapshots_of_user_namespaces() {
    let bundle = Bundle::new();
    let store = Store::open(&bundle.dir.join("store"), gantry_store::Options::default()).unwrap();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let mut chain = None;
    // Two layers: the program, and a file of a user.
    std::fs::create_dir_all(bundle.dir.join("home")).unwrap();
    std::fs::write(bundle.dir.join("home/mine"), "x").unwrap();
    chown(bundle.dir.join("home/mine"), Some(Uid::from_raw(1000)), Some(Gid::from_raw(1001))).unwrap();
    for (dir, what) in [("root", "."), (".", "home")] {
        let tar = Command::new("tar").arg("-C").arg(bundle.dir.join(dir)).args(["-c", what]).output().unwrap();
        let pending = store.unpack_layer(&lease, &mut tar.stdout.as_slice(), &|_| {}).unwrap();
        chain = Some(store.commit_layer(&lease, chain.as_ref(), pending).unwrap());
    }
    let ranges = Ranges::default();
    let range = ranges.take().unwrap();
    let mapping = range.mapping();
    let namespace = userns::make(&mapping).unwrap();
    let line = "busybox id -u; busybox stat -c %u:%g /bin/busybox /home/mine; echo new > /tmp/new; \
        busybox chown 5:6 /tmp/new; busybox rm /home/mine; busybox stat -c %u:%g /tmp/new; busybox ls /home";
    for (snapshot, expect) in [
        (store.prepare("rw", chain.as_ref()).unwrap(), "0\n0:0\n1000:1001\n5:6"),
        (store.view("ro", chain.as_ref()).unwrap(), "Read-only file system"),
        (store.prepare("empty", None).unwrap(), "no such file"),
    ] {
        let mount = snapshot.mount_mapped(gantry_store::MountOptions::default(), namespace.as_fd()).unwrap();
        let at = bundle.dir.join("mnt");
        std::fs::create_dir_all(&at).unwrap();
        rustix::mount::move_mount(&mount, "", CWD, &at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).unwrap();
        let found = bundle.run(line, |settings, place| {
            settings.user_namespace = Some(mapping.clone());
            place.root = at.display().to_string();
        });
        rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert!(found.contains(expect), "{}: {found}", snapshot.key());
    }
    let upper = store.snapshot("rw").unwrap().unwrap().upper();
    for (path, owner) in [("tmp/new", (5, 6)), ("tmp", (0, 0)), ("home", (0, 0))] {
        let found = std::fs::metadata(upper.join(path)).unwrap();
        assert_eq!((found.uid(), found.gid()), owner, "{path}");
    }
    let tmp = std::fs::read_dir(bundle.dir.join("store/tmp")).map_or(0, Iterator::count);
    assert_eq!(tmp, 0);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&bundle.dir.display().to_string()), "{mounts}");
}
