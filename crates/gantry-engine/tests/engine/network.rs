//! Containers in networks.

use gantry_engine::request::{CreateNetwork, EndpointRequest, NetworkMode, RemoveOptions};

use crate::kit::{Place, in_own_network, run, shell};

#[test]
fn names_and_addresses() {
    in_own_network(|| async {
        let place = Place::new();
        let engine = place.open().await;
        let net = CreateNetwork { name: "apps".to_owned(), ..CreateNetwork::default() };
        let net = engine.create_network(net).await.unwrap();
        let mut server = shell("while :; do echo hello | nc -l -p 80; done");
        server.name = Some("server".to_owned());
        server.network.mode = NetworkMode::Named("apps".to_owned());
        let server = engine.create(server).await.unwrap().id;
        engine.start(&server).await.unwrap();
        let mut client = shell(
            "cat /etc/resolv.conf; for i in 1 2 3 4 5; do nc server 80 && break; sleep 0.1; done; ip -4 addr show eth0 | grep -c inet",
        );
        client.network.mode = NetworkMode::Named("apps".to_owned());
        let (code, out, err) = run(&engine, client).await;
        assert!(
            code == 0 && out.contains("nameserver 127.0.0.11") && out.ends_with("hello\n1\n"),
            "{code} {out} {err}"
        );
        let view = engine.network("apps").unwrap();
        assert_eq!(view.members.len(), 1, "{view:?}");
        let error = engine.remove_network(&net).await.unwrap_err().to_string();
        assert!(error.contains("has active endpoints"), "{error}");
        engine.connect("bridge", &server, EndpointRequest::default()).await.unwrap();
        assert_eq!(engine.container(&server).unwrap().state.endpoints.len(), 2);
        engine.disconnect("bridge", &server, false).await.unwrap();
        engine.remove(&server, RemoveOptions { force: true, volumes: false }).await.unwrap();
        engine.remove_network("apps").await.unwrap();
        engine.close().await;
    });
}
