//! From the making of a container to its removal.

use gantry_engine::container::Status;
use gantry_engine::request::{
    CreateContainer, CreateExec, EndpointRequest, RemoveOptions, StopOptions, Streams, Update, WaitFor,
};

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
            let names = std::fs::read_dir(place.path.join(dir)).unwrap().map(|entry| entry.unwrap().file_name());
            // The runtime keeps compiled filters.
            let left: Vec<_> = names.filter(|name| !name.as_encoded_bytes().starts_with(b".")).collect();
            assert!(left.is_empty(), "{dir}: {left:?}");
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
fn processes_are_told_with_the_times_that_they_have() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let id = engine.create(shell("while :; do sleep 0.05; done")).await.unwrap().id;
        engine.start(&id).await.unwrap();
        let state = engine.container(&id).unwrap().state;
        let top = engine.top(&id, "-o pid,lstart,etime").await.unwrap();
        assert_eq!(top.titles, ["PID", "STARTED", "ELAPSED"]);
        let pid = state.pid.to_string();
        let row = top.processes.iter().find(|row| row[0] == pid).unwrap();
        let year = gantry_model::time::Moment::new(state.started).year.to_string();
        // The zone of the host may have another year for some hours.
        assert!(row[1].len() == 24 && row[1][20..22] == year[..2] && row[2].starts_with("00:"), "{row:?} {year}");
        engine.remove(&id, RemoveOptions { force: true, volumes: false }).await.unwrap();
        engine.close().await;
    });
}

#[test]
fn an_init_process_reaps_and_hands_on_signals() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let mut request =
            shell("trap 'echo got; exit 5' TERM; sh -c 'sleep 0.1 & exec true'; echo $$; while :; do sleep 0.05; done");
        request.host.init = true;
        let id = engine.create(request).await.unwrap().id;
        let streams = Streams { stdin: false, stdout: true, stderr: true };
        let attached = engine.attach(&id, streams).await.unwrap();
        engine.start(&id).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        let exec = CreateExec {
            args: ["sh", "-c", "grep -l 'State:.Z' /proc/[0-9]*/status; cat /proc/1/comm"].map(str::to_owned).to_vec(),
            stdout: true,
            ..CreateExec::default()
        };
        let exec = engine.create_exec(&id, exec).unwrap();
        let attached_exec = engine.start_exec(&exec, false, None).await.unwrap().unwrap();
        assert_eq!(read(attached_exec).await.0, "gantry-init\n");
        engine.stop(&id, StopOptions::default()).await.unwrap();
        assert_eq!(engine.container(&id).unwrap().state.exit_code, 5);
        assert_eq!(read(attached).await.0, "2\ngot\n");
        engine.remove(&id, RemoveOptions::default()).await.unwrap();
    });
}

#[test]
fn what_is_removed_is_not_brought_back_by_what_waited_for_it() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let id = engine.create(shell("true")).await.unwrap().id;
        let endpoint = EndpointRequest::default();
        // The removal is asked for first; the others find the container, and wait until it is done.
        let (removed, renamed, updated, connected, started) = tokio::join!(
            engine.remove(&id, RemoveOptions::default()),
            engine.rename(&id, "another"),
            engine.update(&id, Update::default()),
            engine.connect("bridge", &id, endpoint),
            engine.start(&id),
        );
        removed.unwrap();
        for (what, done) in
            [("rename", renamed), ("update", updated.map(drop)), ("connect", connected), ("start", started)]
        {
            assert!(done.as_ref().is_err_and(gantry_engine::Error::is_missing), "{what}: {done:?}");
        }
        let name = Some("another".to_owned());
        let next = engine.create(CreateContainer { name, ..shell("true") }).await.unwrap().id;
        engine.remove(&next, RemoveOptions::default()).await.unwrap();
        engine.close().await;
        let engine = place.open().await;
        assert_eq!(engine.containers(), []);
        engine.close().await;
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
