//! What goes wrong beside the daemon: monitors that are killed, a disk that is full, starts that fail.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use gantry_engine::container::Status;
use gantry_engine::logs::Query;
use gantry_engine::request::{
    CreateContainer, CreateExec, DeviceMapping, MountKind, MountRequest, Network, NetworkMode, Publish, RemoveOptions,
    Restart, StopOptions, WaitFor,
};
use gantry_engine::{CreateVolume, Engine, Error};

use crate::kit::{Place, in_own_network, read, run, shell};
use crate::leaks::{count, settled};

const FORCE: RemoveOptions = RemoveOptions { force: true, volumes: true };

/// Waits until something is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

/// The monitor of a container.
fn monitor_of(place: &Place, id: &str) -> Option<rustix::process::Pid> {
    let document = place.path.join(format!("run/containers/{id}/launch.json")).display().to_string();
    let mut pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_it = String::from_utf8_lossy(&arguments).contains(&document);
        if is_it { entry.file_name().to_string_lossy().parse().ok() } else { None }
    });
    pids.next().and_then(rustix::process::Pid::from_raw)
}

/// A container on the default network with a port.
fn published(line: &str, host_port: &str) -> CreateContainer {
    let mut request = shell(line);
    request.network = Network { mode: NetworkMode::Bridge, ..Network::default() };
    let port = "80".parse().unwrap();
    request.network.ports = vec![Publish { port, host_ip: String::new(), host_port: host_port.to_owned() }];
    request
}

/// Has made what the first container makes and what stays.
async fn warm(engine: &Engine) {
    let mut request = shell("exit 3");
    request.network = Network { mode: NetworkMode::Bridge, ..Network::default() };
    assert_eq!(run(engine, request).await.0, 3);
}

/// Nobody saw how the process ended whose monitor is gone, but that it must end is known: it is ended, its policy acts,
/// and nothing is left of it.
#[test]
fn monitors_that_are_killed() {
    in_own_network(|| async {
        const NUMBERS: &str = "i=0; while :; do i=$((i+1)); echo $i; done";
        let place = Place::new();
        let engine = place.open().await;
        warm(&engine).await;
        let before = count(&place);
        let mut plain = published(NUMBERS, "");
        plain.host.binds = vec!["faulty:/data".to_owned()];
        let mut again = published(NUMBERS, "20080");
        again.host.restart = Restart::Always;
        let mut leaves = shell(NUMBERS);
        leaves.host.auto_remove = true;
        let mut ids = Vec::new();
        for request in [plain, again, leaves] {
            ids.push(engine.create(request).await.unwrap().id);
        }
        for round in 0..4 {
            for id in ids.iter().filter(|id| engine.container(id).is_ok_and(|view| !view.state.status.is_running())) {
                engine.start(id).await.unwrap();
            }
            // In the midst of what they do.
            tokio::time::sleep(Duration::from_millis(20 * round)).await;
            let processes: Vec<_> = ids.iter().filter_map(|id| Some(engine.container(id).ok()?.state.pid)).collect();
            for id in ids.iter().filter(|id| engine.container(id).is_ok()) {
                let pid = monitor_of(&place, id).expect("it has a monitor");
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            }
            for pid in processes {
                until("the process ends", || !Path::new(&format!("/proc/{pid}/root/bin")).exists()).await;
            }
            until("its end is known", || engine.container(&ids[0]).unwrap().state.status == Status::Exited).await;
            let state = engine.container(&ids[0]).unwrap().state;
            assert_eq!((state.exit_code, state.pid, state.ports.len()), (255, 0, 0), "{state:?}");
            until("the policy acts", || {
                let state = engine.container(&ids[1]).unwrap().state;
                state.status == Status::Running && !state.ports.is_empty() && u64::from(state.restarts) > round
            })
            .await;
            until("it goes", || engine.container(&ids[2]).is_err()).await;
        }
        for id in &ids[..2] {
            engine.remove(id, FORCE).await.unwrap();
        }
        engine.remove_volume("faulty", false).await.unwrap();
        settled(&place, &before).await;
        engine.close().await;
    });
}

/// A container may end by itself in the moment in which it is killed or removed: its process has ended, and its monitor has
/// not got to it yet.
#[test]
fn what_has_just_ended_can_be_killed_and_removed() {
    use rustix::process::{Pid, Signal, kill_process};
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        for stopped in [false, true] {
            let id = engine.create(shell("sleep 100")).await.unwrap().id;
            engine.start(&id).await.unwrap();
            let monitor = monitor_of(&place, &id).expect("it has a monitor");
            kill_process(monitor, Signal::STOP).unwrap();
            let pid = engine.container(&id).unwrap().state.pid;
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
            until("the process ends", || !Path::new(&format!("/proc/{pid}/root/bin")).exists()).await;
            let later = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                kill_process(monitor, Signal::CONT).unwrap();
            };
            if stopped {
                let (done, ()) = tokio::join!(engine.stop(&id, StopOptions::default()), later);
                done.unwrap();
                engine.remove(&id, FORCE).await.unwrap();
            } else {
                let (done, ()) = tokio::join!(engine.remove(&id, FORCE), later);
                done.unwrap();
            }
        }
        assert_eq!(engine.containers(), []);
        engine.close().await;
    });
}

/// Whether it was done, or is said to have failed for want of space.
fn done_or_full<T>(what: &str, result: Result<T, Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("No space left on device") || text.contains("disk is full"), "{what}: {text}");
            false
        }
    }
}

/// Takes all space that there is, in large pieces and then in small ones.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    for piece in [1 << 20, 1 << 10] {
        while file.write_all(&vec![1; piece]).is_ok() {}
    }
}

/// One that goes with its end.
async fn brief(engine: &Engine) -> String {
    let mut request = shell("sleep 100");
    request.host.auto_remove = true;
    let id = engine.create(request).await.unwrap().id;
    engine.start(&id).await.unwrap();
    id
}

/// A disk that is full: what needs space says that there is none, what does not goes on, and nothing is lost.
#[test]
fn a_full_disk() {
    in_own_network(|| async {
        let place = Place::new();
        let root = place.path.join("root");
        std::fs::create_dir(&root).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("full", &root, "tmpfs", flags, Some(c"size=32m")).unwrap();
        let engine = place.open().await;
        let runs = engine.create(shell("echo begun; while :; do echo more; sleep 0.01; done")).await.unwrap().id;
        engine.start(&runs).await.unwrap();
        let rests = engine.create(shell("sleep 100")).await.unwrap().id;
        let goes = engine.create(shell("sleep 100")).await.unwrap().id;
        let brief = brief(&engine).await;
        let before: BTreeSet<_> = engine.containers().iter().map(|view| view.record.id.clone()).collect();
        // Nothing fits any more.
        fill(&root.join("filling"));
        // What makes room needs none.
        engine.remove(&goes, FORCE).await.unwrap();
        // Nor is that room left: what goes by itself goes later.
        fill(&root.join("filling2"));
        let gone = engine.wait(&brief, WaitFor::Removed).unwrap();
        engine.kill(&brief, "KILL").await.unwrap();
        for number in 0..3 {
            done_or_full("create", engine.create(shell("sleep 100")).await.map(|made| drop(made.id)));
            done_or_full(
                "volume",
                engine.create_volume(CreateVolume { name: format!("v{number}"), ..CreateVolume::default() }).await,
            );
        }
        done_or_full("start", engine.start(&rests).await);
        let query = || Query { stdout: true, stderr: true, ..Query::default() };
        let mut logs = engine.logs(&runs, query()).await.unwrap();
        assert!(!logs.next().await.unwrap().unwrap_or_default().is_empty(), "what was written is read");
        let args = ["sh", "-c", "echo > /file; echo here"].map(str::to_owned).to_vec();
        let exec = CreateExec { args, stdout: true, stderr: true, ..CreateExec::default() };
        let exec = engine.create_exec(&runs, exec).unwrap();
        if let Ok(attached) = engine.start_exec(&exec, false, None).await {
            let (out, err) = read(attached.unwrap()).await;
            assert!(out == "here\n" && (err.is_empty() || err.contains("No space")), "{out} {err}");
        }
        assert_eq!(engine.container(&runs).unwrap().state.status, Status::Running);
        // There is space again.
        std::fs::remove_file(root.join("filling")).unwrap();
        std::fs::remove_file(root.join("filling2")).unwrap();
        tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap().unwrap();
        for id in &before {
            assert!(engine.container(id).is_ok() != [&goes, &brief].contains(&id), "{id}");
        }
        if engine.container(&rests).unwrap().state.status != Status::Running {
            engine.start(&rests).await.unwrap();
        }
        let made = engine.create(shell("exit 4")).await.unwrap().id;
        let ended = engine.wait(&made, WaitFor::NextExit).unwrap();
        engine.start(&made).await.unwrap();
        assert_eq!(ended.await.unwrap().code, 4);
        let kept: BTreeSet<_> = engine.containers().iter().map(|view| view.record.id.clone()).collect();
        engine.close().await;
        let engine = place.open().await;
        assert_eq!(engine.containers().iter().map(|view| view.record.id.clone()).collect::<BTreeSet<_>>(), kept);
        for id in [&runs, &rests] {
            assert_eq!(engine.container(id).unwrap().state.status, Status::Running);
        }
        for id in &kept {
            engine.remove(id, FORCE).await.unwrap();
        }
        engine.close().await;
        let left: Vec<_> = count(&place).into_iter().filter(|line| line.contains("/snapshots/")).collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

/// A way to fail, the beginning of what is said of it, and the exit status.
type Fault = (&'static str, fn(&mut CreateContainer), &'static str, i32);

/// Faults that show when a container is started.
const FAULTS: [Fault; 9] = [
    ("no program", |request| request.config.cmd = Some(vec!["/no/such".to_owned()]), "/no/such", 127),
    ("no program in the path", |request| request.config.cmd = Some(vec!["nosuch".to_owned()]), "nosuch", 127),
    ("no right to it", |request| request.config.cmd = Some(vec!["/etc/passwd".to_owned()]), "/etc/passwd", 126),
    ("no such user", |request| "nobodyhere".clone_into(&mut request.config.user), "nobodyhere", 128),
    ("a port that is taken", |request| *request = published("sleep 100", "20099"), "20099", 128),
    (
        "no such device",
        |request| {
            let host = "/dev/no-such-device".to_owned();
            request.host.devices = vec![DeviceMapping { host, ..DeviceMapping::default() }];
        },
        "/dev/no-such-device",
        128,
    ),
    (
        "no such place in a volume",
        |request| {
            let (source, target, subpath) = ("some".to_owned(), "/data".to_owned(), "no/such".to_owned());
            let kind = MountKind::Volume;
            request.host.mounts = vec![MountRequest { kind, source, target, subpath, ..MountRequest::default() }];
        },
        "no/such",
        128,
    ),
    (
        "no such kernel parameter",
        |request| drop(request.host.sysctls.insert("net.no.such".to_owned(), "1".to_owned())),
        "net",
        128,
    ),
    ("no such network", |request| request.network.mode = NetworkMode::Named("nosuchnet".to_owned()), "nosuchnet", 128),
];

#[test]
fn starts_that_fail_leave_nothing() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let _taken = std::net::TcpListener::bind("0.0.0.0:20099").unwrap();
        engine.create_volume(CreateVolume { name: "some".to_owned(), ..CreateVolume::default() }).await.unwrap();
        warm(&engine).await;
        let before = count(&place);
        for (what, fault, says, code) in FAULTS {
            for auto_remove in [false, true] {
                let mut request = shell("sleep 100");
                request.network = Network { mode: NetworkMode::Bridge, ..Network::default() };
                fault(&mut request);
                request.host.auto_remove = auto_remove;
                fails(&engine, &place, &before, (what, says, code), request).await;
            }
        }
        // A source that goes away after it was looked at.
        let source = place.path.join("source");
        let mut request = shell("sleep 100");
        request.host.binds = vec![format!("{}:/data", source.display())];
        let id = engine.create(request).await.unwrap().id;
        std::fs::remove_dir(&source).unwrap();
        let error = engine.start(&id).await.unwrap_err().to_string();
        assert!(error.contains(&source.display().to_string()), "{error}");
        engine.remove(&id, RemoveOptions::default()).await.unwrap();
        settled(&place, &before).await;
        engine.close().await;
    });
}

/// A start that fails: says why, leaves nothing but the container, and nothing at all once that is gone.
async fn fails(
    engine: &Engine,
    place: &Place,
    before: &BTreeSet<String>,
    (what, says, code): (&str, &str, i32),
    request: CreateContainer,
) {
    let auto_remove = request.host.auto_remove;
    let id = match engine.create(request).await {
        Ok(made) => made.id,
        Err(error) => {
            assert!(error.to_string().contains(says), "{what}: {error}");
            return settled(place, before).await;
        }
    };
    let made = count(place);
    let error = engine.start(&id).await.unwrap_err();
    assert!(error.to_string().contains(says), "{what}: {error}");
    if auto_remove {
        assert!(engine.container(&id).unwrap_err().is_missing(), "{what}");
        return settled(place, before).await;
    }
    let state = engine.container(&id).unwrap().state;
    assert_eq!((state.status, state.exit_code, state.pid), (Status::Created, code, 0), "{what}: {error}");
    assert_eq!(state.error, error.to_string(), "{what}");
    assert!(state.endpoints.is_empty() && state.ports.is_empty(), "{what}: {state:?}");
    // Its own files may be there; the kernel takes devices away in its own time.
    let own = |line: &&String| line.contains("/root/containers/") || line.contains("/root/snapshots/");
    until(what, || count(place).difference(&made).all(|line| own(&line))).await;
    engine.remove(&id, RemoveOptions::default()).await.unwrap();
    settled(place, before).await;
}
