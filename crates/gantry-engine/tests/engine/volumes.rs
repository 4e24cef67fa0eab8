//! Volumes and files of containers.

use std::os::unix::fs::MetadataExt as _;

use gantry_engine::request::{MountKind, MountRequest, RemoveOptions, UserNamespace, WaitFor};
use gantry_engine::{ChangeKind, CreateVolume, Engine};
use gantry_tar::Kind::{File, Link, Symlink};

use crate::kit::{Place, in_own_network, run, shell};

fn mount(kind: MountKind, source: &str, target: &str) -> MountRequest {
    MountRequest { kind, source: source.to_owned(), target: target.to_owned(), ..MountRequest::default() }
}

#[test]
fn volumes_outlive_containers() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let mut request = shell("ls /etc /data; echo kept > /data/file");
        request.host.binds = vec!["data:/data".to_owned(), "etc:/etc2".to_owned()];
        let (code, out, err) = run(&engine, request).await;
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let mut request = shell("cat /data/file; ls /bin2 | grep -c busybox; touch /ro/x");
        request.host.binds = vec!["data:/data".to_owned(), "data:/ro:ro".to_owned()];
        // What the image has at the place is in a new volume.
        request.host.mounts = vec![mount(MountKind::Volume, "", "/bin2"), mount(MountKind::Image, "busybox", "/image")];
        request.config.volumes.insert("/anonymous".to_owned());
        let id = engine.create(request).await.unwrap().id;
        let names: Vec<String> = engine.volumes().iter().map(|volume| volume.name.clone()).collect();
        assert_eq!(names.len(), 4, "{names:?}");
        let ended = engine.wait(&id, WaitFor::NextExit).unwrap();
        engine.start(&id).await.unwrap();
        assert_eq!(ended.await.unwrap().code, 1);
        let error = engine.remove_volume("data", false).await.unwrap_err().to_string();
        assert!(error.contains("volume is in use"), "{error}");
        engine.remove(&id, RemoveOptions { force: false, volumes: true }).await.unwrap();
        let names: Vec<String> = engine.volumes().iter().map(|volume| volume.name.clone()).collect();
        assert_eq!(names, ["data", "etc"]);
        engine.close().await;
        let engine = place.open().await;
        assert_eq!(engine.volume("data").unwrap().name, "data");
        engine.remove_volume("data", false).await.unwrap();
        assert!(engine.volume("data").unwrap_err().is_missing());
        let asked = CreateVolume { name: "../up".to_owned(), ..CreateVolume::default() };
        assert!(engine.create_volume(asked).await.is_err());
        engine.close().await;
    });
}

#[test]
fn content_of_the_image_goes_into_a_new_volume() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let mut request = shell("ls /bin/busybox && touch /bin/new");
        request.host.mounts = vec![mount(MountKind::Volume, "bins", "/bin")];
        assert_eq!(run(&engine, request).await.0, 0);
        let data = engine.volume("bins").unwrap().mountpoint.clone();
        assert!(std::path::Path::new(&data).join("new").exists());
        let mut request = shell("true");
        request.host.mounts = vec![MountRequest { no_copy: true, ..mount(MountKind::Volume, "empty", "/etc") }];
        assert_eq!(run(&engine, request).await.0, 0);
        let data = engine.volume("empty").unwrap().mountpoint.clone();
        assert!(!std::path::Path::new(&data).join("passwd").exists());
        engine.close().await;
    });
}

async fn archived(engine: &Engine, id: &str, path: &str) -> Vec<String> {
    let file = std::env::temp_dir().join(format!("gantry-engine-{}-{id}", std::process::id()));
    engine.archive(id, path, std::fs::File::create(&file).unwrap()).await.unwrap();
    let listed = std::process::Command::new("tar").arg("tf").arg(&file).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn files_go_in_and_out() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let line = "mkdir -p /d/e; echo x > /d/e/f; ln -s /etc /d/link; ln -s ../../../../../../etc/shadow /d/out; rm /bin/wc; echo y > /etc/new";
        let id = engine.create(shell(line)).await.unwrap().id;
        let ended = engine.wait(&id, WaitFor::NextExit).unwrap();
        engine.start(&id).await.unwrap();
        ended.await.unwrap();
        assert_eq!(archived(&engine, &id, "/d/e").await, ["e/", "e/f"]);
        assert_eq!(archived(&engine, &id, "/d/e/.").await, ["./", "./f"]);
        // A link in the middle leads inside, one at the end is copied as it is.
        assert_eq!(archived(&engine, &id, "/d/link/new").await, ["new"]);
        assert_eq!(archived(&engine, &id, "/d/link").await, ["link"]);
        assert_eq!(engine.stat_path(&id, "/d/link").await.unwrap().link, "/etc");
        assert_eq!(engine.stat_path(&id, "/d/out").await.unwrap().link, "/etc/shadow");
        // The host's file of that name is not the container's.
        assert!(engine.stat_path(&id, "/d/out/").await.unwrap_err().is_missing());
        assert!(engine.stat_path(&id, "/nowhere/x").await.unwrap_err().is_missing());
        let kinds: Vec<(String, ChangeKind)> =
            engine.changes(&id).await.unwrap().into_iter().map(|change| (change.path, change.kind)).collect();
        let expect =
            |path: &str, kind: ChangeKind| assert!(kinds.contains(&(path.to_owned(), kind)), "{path}: {kinds:?}");
        expect("/d/e/f", ChangeKind::Added);
        expect("/bin/wc", ChangeKind::Deleted);
        expect("/etc", ChangeKind::Modified);
        expect("/etc/new", ChangeKind::Added);
        assert!(!kinds.iter().any(|(path, _)| path == "/etc/hosts"), "{kinds:?}");
        engine.remove(&id, RemoveOptions::default()).await.unwrap();
        engine.close().await;
    });
}

/// Archives that try to get out of the container.
#[test]
fn hostile_archives_stay_inside() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let target = place.path.join("outside");
        std::fs::create_dir(&target).unwrap();
        let outside = target.display().to_string();
        let id = engine.create(shell("true")).await.unwrap().id;
        let tar = |entries: &[(&str, gantry_tar::Kind, &str)]| {
            let mut writer = gantry_tar::Writer::new(Vec::new());
            for (path, kind, link) in entries {
                let entry = gantry_tar::Entry {
                    path: path.as_bytes().to_vec(),
                    kind: *kind,
                    link: link.as_bytes().to_vec(),
                    mode: 0o644,
                    ..gantry_tar::Entry::default()
                };
                writer.begin(&entry).unwrap();
            }
            writer.finish().unwrap()
        };
        let up = "../../../../../../../../..".to_owned() + &outside;
        let cases: [&[(&str, gantry_tar::Kind, &str)]; 4] = [
            &[(&format!("{up}/one"), File, "")],
            &[("l", Symlink, &outside), ("l/two", File, "")],
            &[("m", Symlink, &up), ("m/three", File, "")],
            &[("n", Link, "../../../../../../../../etc/shadow")],
        ];
        for case in cases {
            // Whether it is refused or put somewhere inside is one; the host's directory stays empty.
            let _ = engine.extract(&id, "/", std::io::Cursor::new(tar(case)), false, false).await;
            assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0, "{case:?}");
        }
        assert!(engine.stat_path(&id, "/n").await.unwrap_err().is_missing());
        engine.remove(&id, RemoveOptions::default()).await.unwrap();
        engine.close().await;
    });
}

/// A container that puts a link where another has a part of a volume mounted: it leads nowhere but into the volume.
#[test]
fn parts_of_volumes_stay_inside() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let outside = place.path.join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), "").unwrap();
        let mut request = shell(&format!(
            "cd /v && mkdir -p real/below && echo inside > real/file && ln -s / root && ln -s {0} absolute && \
             ln -s ../../../../../../../../../../..{0} up && ln -s real link && ln -s /proc/self/root magic",
            outside.display()
        ));
        request.host.mounts = vec![mount(MountKind::Volume, "vol", "/v")];
        assert_eq!(run(&engine, request).await.0, 0);
        let part = |subpath: &str| {
            let mut request = shell("ls /part");
            let mount = mount(MountKind::Volume, "vol", "/part");
            request.host.mounts = vec![MountRequest { subpath: subpath.to_owned(), ..mount }];
            request
        };
        for (subpath, expect) in [("real", "below\nfile\n"), ("link", "below\nfile\n"), ("root/real", "below\nfile\n")]
        {
            assert_eq!(run(&engine, part(subpath)).await.1, expect, "{subpath}");
        }
        // A link to the root is the volume's own.
        let (_, whole, _) = run(&engine, part("root")).await;
        assert!(whole.contains("real") && !whole.contains("busybox") && !whole.contains("proc"), "{whole}");
        for subpath in ["absolute", "up", "magic", "root/proc", "none", "real/file/x"] {
            let id = engine.create(part(subpath)).await.unwrap().id;
            let error = engine.start(&id).await.unwrap_err().to_string();
            assert!(error.contains("cannot access path"), "{subpath}: {error}");
            engine.remove(&id, RemoveOptions::default()).await.unwrap();
        }
        let error = engine.create(part("../x")).await.unwrap_err().to_string();
        assert!(error.contains("subpath must be a relative path"), "{error}");
        engine.close().await;
    });
}

fn archive_of(path: &str, uid: u64, data: &[u8]) -> std::io::Cursor<Vec<u8>> {
    use std::io::Write as _;
    let entry = gantry_tar::Entry {
        path: path.as_bytes().to_vec(),
        mode: 0o644,
        uid,
        gid: uid,
        size: data.len() as u64,
        ..gantry_tar::Entry::default()
    };
    let mut writer = gantry_tar::Writer::new(Vec::new());
    writer.begin(&entry).unwrap();
    writer.write_all(data).unwrap();
    std::io::Cursor::new(writer.finish().unwrap())
}

/// What can be copied into is what the container itself could write to, whether it runs or not.
#[test]
fn copies_heed_mounts() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let host = place.path.join("host");
        std::fs::create_dir(&host).unwrap();
        let mut request = shell("sleep 1000");
        request.host.binds = vec![
            format!("{}:/made/on/the/way:ro", host.display()),
            "data:/data".to_owned(),
            "bins:/bin2/..//bin3".to_owned(),
        ];
        request.host.mounts = vec![
            MountRequest { subpath: "sub".to_owned(), ..mount(MountKind::Volume, "parts", "/part") },
            mount(MountKind::Volume, "etc", "/etc"),
            mount(MountKind::Tmpfs, "", "/memory"),
        ];
        request.host.readonly_root = true;
        let asked = CreateVolume { name: "parts".to_owned(), ..CreateVolume::default() };
        let parts = std::path::PathBuf::from(&engine.create_volume(asked).await.unwrap().mountpoint);
        std::fs::create_dir(parts.join("sub")).unwrap();
        let id = engine.create(request).await.unwrap().id;
        let put = async |path: &str| {
            let put = engine.extract(&id, path, archive_of("file", 5, b"data"), false, false).await;
            put.map_or_else(|error| error.to_string(), |()| String::new())
        };
        for running in [false, true] {
            if running {
                engine.start(&id).await.unwrap();
            }
            assert_eq!(put("/").await, "container rootfs is marked read-only", "{running}");
            assert_eq!(put("/root").await, "container rootfs is marked read-only", "{running}");
            // By another name, too.
            for path in ["/made/on/the/way", "made/on/../on/the/way/", "/data/../made/on/the/way"] {
                assert_eq!(put(path).await, "mounted volume is marked read-only", "{running} {path}");
            }
            for path in ["/data", "/part", "/bin3", "/etc"] {
                assert_eq!(put(path).await, "", "{running} {path}");
            }
            // What the image has is in the volume before the container runs.
            assert_eq!(archived(&engine, &id, "/etc/passwd").await, ["passwd"]);
            assert!(parts.join("sub/file").exists() && !parts.join("file").exists());
            std::fs::remove_file(parts.join("sub/file")).unwrap();
        }
        assert_eq!(put("/memory").await, "");
        assert_eq!(archived(&engine, &id, "/memory").await, ["memory/", "memory/file"]);
        assert_eq!(std::fs::read_dir(&host).unwrap().count(), 0);
        // Of the file systems of the kernel only their places come along, unless they are meant.
        let all = archived(&engine, &id, "/").await;
        assert!(all.contains(&"./proc/".to_owned()) && all.contains(&"./data/file".to_owned()), "{all:?}");
        let kernel =
            |name: &&String| ["./proc/", "./sys/", "./dev/"].iter().any(|at| name.starts_with(at) && *name != at);
        assert_eq!(all.iter().filter(kernel).count(), 0, "{all:?}");
        assert_eq!(archived(&engine, &id, "/proc/version").await, ["version"]);
        engine.remove(&id, RemoveOptions { force: true, volumes: true }).await.unwrap();
        engine.close().await;
    });
}

/// Neither the engine nor its monitor leaves a descriptor to a container, whatever it is run with.
#[test]
fn containers_get_no_descriptors_of_the_engine() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        // Of the shell, and of ls, which has its directory open.
        let line = "ls /proc/$$/fd; echo -; ls /proc/self/fd; busybox readlink /proc/self/cwd";
        for terminal in [false, true] {
            let mut request = shell(line);
            request.config.terminal = terminal;
            request.host.binds = vec!["data:/data".to_owned()];
            request.host.mounts = vec![mount(MountKind::Image, "busybox", "/image")];
            let out = run(&engine, request).await.1.replace('\r', "");
            assert_eq!(out.split_whitespace().collect::<Vec<_>>().join(" "), "0 1 2 - 0 1 2 3 /", "{terminal}");
        }
        engine.close().await;
    });
}

/// Volumes that are mounted are so while a container uses them, and when something is copied.
#[test]
fn volumes_with_options() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let host = place.path.join("host");
        std::fs::create_dir(&host).unwrap();
        let options = |kind: &str, device: &str, o: &str| {
            let all = [("type", kind), ("device", device), ("o", o)];
            all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        for (name, options) in [
            ("bound", options("none", host.to_str().unwrap(), "bind")),
            ("frozen", options("none", host.to_str().unwrap(), "bind,ro")),
            ("memory", options("tmpfs", "tmpfs", "size=8m")),
        ] {
            engine
                .create_volume(CreateVolume { name: name.to_owned(), options, ..CreateVolume::default() })
                .await
                .unwrap();
        }
        let mut request = shell("echo x > /frozen/no; echo y > /bound/yes; cat /bin2/sh | head -c 4; sleep 1000");
        request.host.mounts = vec![
            mount(MountKind::Volume, "bound", "/bound"),
            MountRequest { no_copy: true, ..mount(MountKind::Volume, "frozen", "/frozen") },
            mount(MountKind::Volume, "memory", "/bin"),
        ];
        let id = engine.create(request).await.unwrap().id;
        engine.extract(&id, "/bound", archive_of("copied", 5, b"data"), false, false).await.unwrap();
        assert!(host.join("copied").exists());
        let mounted = || std::fs::read_to_string("/proc/self/mountinfo").unwrap().matches(&place.name).count();
        let before = mounted();
        engine.start(&id).await.unwrap();
        let ended = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !host.join("yes").exists() && std::time::Instant::now() < ended {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(host.join("yes").exists() && !host.join("no").exists());
        engine.remove(&id, RemoveOptions { force: true, volumes: true }).await.unwrap();
        assert_eq!(mounted(), before);
        assert!(host.join("copied").exists());
        for name in ["bound", "frozen", "memory"] {
            engine.remove_volume(name, false).await.unwrap();
        }
        assert!(host.join("copied").exists(), "what was bound is not removed");
        engine.close().await;
    });
}

/// What is copied into a volume belongs to the ids that the container has, whatever they are on the host.
#[test]
fn copies_into_volumes_of_user_namespaces() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let line = "while ! test -e /data/done; do sleep 0.05; done
            stat -c %u:%g /data/a /data/a/copied /tmp/copied > /data/seen";
        let mut request = shell(line);
        request.host.user_namespace = UserNamespace::Auto;
        request.host.mounts = vec![mount(MountKind::Volume, "data", "/data")];
        let id = engine.create(request).await.unwrap().id;
        let ended = engine.wait(&id, WaitFor::NextExit).unwrap();
        engine.start(&id).await.unwrap();
        for (path, name) in [("/tmp", "copied"), ("/data", "a/copied"), ("/data", "done")] {
            engine.extract(&id, path, archive_of(name, 5, b"data"), false, false).await.unwrap();
        }
        assert_eq!(ended.await.unwrap().code, 0);
        let data = std::path::PathBuf::from(&engine.volume("data").unwrap().mountpoint);
        assert_eq!(std::fs::read_to_string(data.join("seen")).unwrap(), "0:0\n5:5\n5:5\n");
        let found = std::fs::metadata(data.join("a/copied")).unwrap();
        assert_eq!((found.uid(), found.gid()), (5, 5));
        engine.remove(&id, RemoveOptions { force: true, volumes: true }).await.unwrap();
        engine.close().await;
    });
}
