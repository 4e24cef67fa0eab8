//! From the making of a container to its removal.

use gantry_engine::container::Status;
use gantry_engine::request::{CreateExec, RemoveOptions, StopOptions, WaitFor};

use crate::kit::{Place, in_own_network, read, run, shell};

#[test]
fn runs_to_its_end() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let (code, out, err) = run(&engine, shell("echo out; echo err >&2; exit 3")).await;
        assert_eq!((code, out.as_str(), err.as_str()), (3, "out\n", "err\n"));
        assert_eq!(engine.containers(), []);
        for dir in ["run/containers", "run/runtime", "root/containers", "root/snapshots"] {
            assert_eq!(std::fs::read_dir(place.path.join(dir)).unwrap().count(), 0, "{dir}");
        }
    });
}

#[test]
fn stop_kill_pause_exec() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let id = engine.create(shell("trap 'exit 7' TERM; while :; do sleep 0.05; done")).await.unwrap().id;
        engine.start(&id).await.unwrap();
        assert!(engine.start(&id).await.unwrap_err().to_string().contains("is running"));
        let request = |line: &str| CreateExec {
            args: ["sh", "-c", line].map(str::to_owned).to_vec(),
            env: vec!["A=1".to_owned()],
            stdout: true,
            stderr: true,
            ..CreateExec::default()
        };
        let exec = engine.create_exec(&id, request("echo $A; exit 4")).unwrap();
        let attached = engine.start_exec(&exec, false, None).await.unwrap().unwrap();
        assert_eq!(read(attached).await.0, "1\n");
        assert_eq!(engine.wait_exec(&exec).await.unwrap(), 4);
        engine.pause(&id).await.unwrap();
        assert_eq!(engine.container(&id).unwrap().state.status, Status::Paused);
        engine.unpause(&id).await.unwrap();
        engine.stop(&id[..12], StopOptions::default()).await.unwrap();
        let state = engine.container(&id).unwrap().state;
        assert_eq!((state.status, state.exit_code), (Status::Exited, 7));
        engine.start(&id).await.unwrap();
        let ended = engine.wait(&id, WaitFor::NotRunning).unwrap();
        engine.kill(&id, "KILL").await.unwrap();
        assert_eq!(ended.await.unwrap().code, 137);
        engine.start(&id).await.unwrap();
        engine.remove(&id, RemoveOptions { force: true, volumes: false }).await.unwrap();
        assert!(engine.container(&id).unwrap_err().is_missing());
    });
}

#[test]
fn outlives_the_engine() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let long = engine.create(shell("sleep 100")).await.unwrap().id;
        let short = engine.create(shell("sleep 0.2; exit 9")).await.unwrap().id;
        engine.start(&long).await.unwrap();
        engine.start(&short).await.unwrap();
        let pid = engine.container(&long).unwrap().state.pid;
        engine.close().await;
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        let engine = place.open().await;
        let state = engine.container(&long).unwrap().state;
        assert_eq!((state.status, state.pid), (Status::Running, pid));
        let state = engine.container(&short).unwrap().state;
        assert_eq!((state.status, state.exit_code), (Status::Exited, 9));
        for id in [long, short] {
            engine.remove(&id, RemoveOptions { force: true, volumes: false }).await.unwrap();
        }
    });
}
