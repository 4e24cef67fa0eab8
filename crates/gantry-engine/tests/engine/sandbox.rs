//! Several containers in one sandbox: the engine as pods and tasks will use it.

use gantry_engine::container::Status;
use gantry_engine::request::{CreateExec, Network, NetworkMode, RemoveOptions, Streams, WaitFor};
use gantry_engine::{CreateSandbox, Engine};

use crate::kit::{Place, in_own_network, read, shell};

/// Runs a line in a container; what it wrote.
async fn exec(engine: &Engine, id: &str, line: &str) -> String {
    let args = ["sh", "-c", line].map(str::to_owned).to_vec();
    let exec =
        engine.create_exec(id, CreateExec { args, stdout: true, stderr: true, ..CreateExec::default() }).unwrap();
    read(engine.start_exec(&exec, false, None).await.unwrap().unwrap()).await.0
}

#[test]
fn containers_share_what_a_sandbox_has() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let (_, mut events) = engine.events();
        let asked = CreateSandbox {
            name: "pod".to_owned(),
            hostname: "podhost".to_owned(),
            network: Network { mode: NetworkMode::Bridge, ..Network::default() },
            share_pid: true,
            ..CreateSandbox::default()
        };
        let sandbox = engine.create_sandbox(asked).await.unwrap();
        engine.start(&sandbox).await.unwrap();
        assert_eq!(engine.containers(), [], "a sandbox is no container to people");
        let inside = |line: &str| {
            let mut request = shell(line);
            (request.network, request.sandbox) = (Network::default(), Some(sandbox.clone()));
            request
        };
        // One that prepares and ends, then two that serve: the order is the caller's.
        let first = engine.create(inside("echo ready > /dev/shm/state")).await.unwrap().id;
        let ended = engine.wait(&first, WaitFor::NextExit).unwrap();
        engine.start(&first).await.unwrap();
        assert_eq!(ended.await.unwrap().code, 0);
        let server = engine.create(inside("while :; do echo hello | nc -l -p 8080; done")).await.unwrap().id;
        let client = engine.create(inside("sleep 100")).await.unwrap().id;
        engine.start(&server).await.unwrap();
        engine.start(&client).await.unwrap();
        assert_eq!(exec(&engine, &client, "cat /dev/shm/state").await, "ready\n");
        assert_eq!(
            exec(&engine, &client, "for i in 1 2 3 4 5; do nc 127.0.0.1 8080 && break; sleep 0.1; done").await,
            "hello\n"
        );
        assert_eq!(exec(&engine, &client, "cat /proc/sys/kernel/hostname").await, "podhost\n");
        let address = engine.container(&sandbox).unwrap().state.endpoints["bridge"].ipv4.clone();
        assert!(
            exec(&engine, &client, "ip -4 addr show eth0; cat /etc/hosts")
                .await
                .contains(&format!("{address}\tpodhost"))
        );
        let seen = exec(&engine, &client, "cat /proc/[0-9]*/comm").await;
        assert!(seen.contains("gantry-init") && seen.contains("sleep") && seen.contains("nc"), "{seen}");
        // One ends, the others and the address stay.
        engine.remove(&server, RemoveOptions { force: true, volumes: false }).await.unwrap();
        assert_eq!(engine.container(&sandbox).unwrap().state.endpoints["bridge"].ipv4, address);
        assert_eq!(engine.container(&client).unwrap().state.status, Status::Running);
        // The engine goes and comes back.
        engine.close().await;
        let engine = place.open().await;
        assert_eq!(engine.containers_of(&sandbox).len(), 2);
        assert_eq!(exec(&engine, &client, "cat /dev/shm/state").await, "ready\n");
        let streams = Streams { stdin: false, stdout: true, stderr: true };
        drop(engine.attach(&client, streams).await.unwrap());
        engine.remove_sandbox(&sandbox).await.unwrap();
        assert!(engine.container(&client).unwrap_err().is_missing());
        assert!(engine.container(&sandbox).unwrap_err().is_missing());
        let mut seen = Vec::new();
        while let Ok(event) = events.try_recv() {
            seen.push(format!("{} {}", event.subject.as_str(), event.action));
        }
        for wanted in ["container start", "container die", "network connect"] {
            assert!(seen.iter().any(|event| event == wanted), "{wanted}: {seen:?}");
        }
        engine.close().await;
    });
}

/// Processes are seen by each other only where that was asked for; what happens is told in its order.
#[test]
fn processes_stay_apart_unless_asked() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let (_, mut events) = engine.events();
        let network = Network { mode: NetworkMode::None, ..Network::default() };
        let asked = CreateSandbox { name: "apart".to_owned(), network, ..CreateSandbox::default() };
        let sandbox = engine.create_sandbox(asked).await.unwrap();
        engine.start(&sandbox).await.unwrap();
        let mut ids = Vec::new();
        for number in 1..=2 {
            let mut request = shell(&format!("touch /dev/shm/{number}; sleep 100{number}"));
            (request.network, request.sandbox) = (Network::default(), Some(sandbox.clone()));
            let id = engine.create(request).await.unwrap().id;
            engine.start(&id).await.unwrap();
            // The next is started when this one is ready.
            while exec(&engine, &id, &format!("ls /dev/shm/{number} 2> /dev/null")).await.is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            ids.push(id);
        }
        for (number, id) in ids.iter().enumerate() {
            let own = format!("sleep 100{}", number + 1);
            let seen = exec(&engine, id, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").await;
            assert!(seen.contains(&own) && !seen.contains("gantry-init"), "{seen}");
            assert!(!seen.contains(&format!("sleep 100{}", 2 - number)), "{seen}");
            assert_eq!(exec(&engine, id, "ls /dev/shm").await, "1\n2\n");
        }
        engine.remove_sandbox(&sandbox).await.unwrap();
        let mut seen = Vec::new();
        while let Ok(event) = events.try_recv() {
            let number = ids.iter().position(|id| *id == event.id);
            if let Some(number) =
                number.filter(|_| ["create", "start", "die", "destroy"].contains(&event.action.as_str()))
            {
                seen.push(format!("{number} {}", event.action));
            }
        }
        assert_eq!(seen[..4], ["0 create", "0 start", "1 create", "1 start"]);
        assert!(["0 die", "0 destroy", "1 die", "1 destroy"].iter().all(|one| seen.iter().any(|seen| seen == one)));
        engine.close().await;
    });
}
