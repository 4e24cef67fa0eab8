//! Containers in networks.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gantry_engine::Engine;
use gantry_engine::container::Published;
use gantry_engine::request::{
    CreateContainer, CreateNetwork, EndpointRequest, NetworkMode, Publish, RemoveOptions, StopOptions, SubnetRequest,
};
use gantry_sys::netlink::{Batch, Channel, Subsystem};

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

/// A container that says hello at port 80, by IPv4 and IPv6.
fn server(ports: &[(&str, &str)]) -> CreateContainer {
    let mut server = shell("while :; do echo hello | nc -l -p 80; done");
    server.network.mode = NetworkMode::Bridge;
    server.network.ports = ports
        .iter()
        .map(|(host_ip, host_port)| Publish {
            port: "80/tcp".parse().unwrap(),
            host_ip: (*host_ip).to_owned(),
            host_port: (*host_port).to_owned(),
        })
        .collect();
    server
}

/// Whether hello is said at an address of the host, soon.
fn greeting(address: &str) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        if says_hello(address, Duration::from_secs(1)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

fn says_hello(address: &str, patience: Duration) -> bool {
    let mut said = String::new();
    let asked = TcpStream::connect_timeout(&address.parse().unwrap(), patience).and_then(|mut stream| {
        stream.set_read_timeout(Some(patience))?;
        stream.read_to_string(&mut said)
    });
    asked.is_ok() && said == "hello\n"
}

/// The ports of a container as `ADDRESS PORT`.
fn ports(engine: &Engine, id: &str) -> Vec<(String, u16)> {
    let one = |port: &Published| (port.host_ip.clone(), port.host_port);
    engine.container(id).unwrap().state.ports.iter().map(one).collect()
}

async fn start(engine: &Engine, request: CreateContainer) -> String {
    let id = engine.create(request).await.unwrap().id;
    engine.start(&id).await.unwrap();
    id
}

const FORCE: RemoveOptions = RemoveOptions { force: true, volumes: false };

#[test]
fn ports_are_published_on_both_families() {
    in_own_network(|| async {
        gantry_sys::netlink::loopback_up().unwrap();
        let place = Place::new();
        let engine = place.open().await;
        let listed = |all: &[(&str, u16)]| all.iter().map(|(ip, port)| ((*ip).to_owned(), *port)).collect::<Vec<_>>();
        let id = start(&engine, server(&[("", "8080"), ("::1", "8081"), ("", "9000-9010")])).await;
        let expect = [("0.0.0.0", 8080), ("::", 8080), ("::1", 8081), ("0.0.0.0", 9000), ("::", 9000)];
        assert_eq!(ports(&engine, &id), listed(&expect));
        for address in ["127.0.0.1:8080", "[::1]:8080", "[::1]:8081", "[::1]:9000"] {
            assert!(greeting(address), "{address}");
        }
        // Again at once, and the next takes the next port of the range; a port that is taken is refused.
        engine.restart(&id, StopOptions { timeout: Some(0), ..StopOptions::default() }).await.unwrap();
        assert!(greeting("[::1]:8080") && greeting("127.0.0.1:8080"));
        let next = start(&engine, server(&[("", "9000-9010")])).await;
        assert_eq!(ports(&engine, &next), listed(&[("0.0.0.0", 9001), ("::", 9001)]));
        let third = engine.create(server(&[("::", "8080")])).await.unwrap().id;
        let error = engine.start(&third).await.unwrap_err().to_string();
        assert!(error.contains("Bind for [::]:8080 failed: port is already allocated"), "{error}");
        // All that are exposed, each at a port that is free.
        let mut all = server(&[]);
        all.config.exposed_ports = ["80/tcp".parse().unwrap(), "53/udp".parse().unwrap()].into();
        all.network.publish_all = true;
        let all = start(&engine, all).await;
        let found = ports(&engine, &all);
        assert!(found.len() == 4 && found.iter().all(|(_, port)| *port >= 32768), "{found:?}");
        let tcp = engine.container(&all).unwrap().state.ports.iter().find(|port| port.port.number == 80).cloned();
        assert!(greeting(&format!("127.0.0.1:{}", tcp.unwrap().host_port)));

        // An engine that comes back holds and relays what runs on.
        engine.close().await;
        let engine = place.open().await;
        assert!(greeting("127.0.0.1:8080") && greeting("[::1]:8080"));
        let error = engine.start(&third).await.unwrap_err().to_string();
        assert!(error.contains("port is already allocated"), "{error}");
        engine.remove(&id, FORCE).await.unwrap();
        assert!(TcpStream::connect("[::1]:8080").is_err() && TcpStream::connect("127.0.0.1:8080").is_err());
        engine.start(&third).await.unwrap();
        assert!(greeting("[::1]:8080"));
        for id in [third, next, all] {
            engine.remove(&id, FORCE).await.unwrap();
        }
        engine.close().await;
    });
}

#[test]
fn what_others_take_away_of_the_network_comes_back() {
    in_own_network(|| async {
        gantry_sys::netlink::loopback_up().unwrap();
        let place = Place::new();
        let engine = place.open().await;
        let id = start(&engine, server(&[("", "8080")])).await;
        assert!(greeting("127.0.0.1:8080"));
        let tool = |words: &[&str]| {
            let output = std::process::Command::new(words[0]).args(&words[1..]).output();
            output.is_ok_and(|output| output.status.success())
        };
        // As one does who flushes all rules of the host: here of this thread's network namespace.
        let mut batch = Batch::new();
        batch.push(0x10, 0, &[0, 0, 0, 10], |_| ());
        for family in [2, 10] {
            batch.push(0xa02, 0, &[family, 0, 0, 0], |_| ());
        }
        batch.push(0x11, 0, &[0, 0, 0, 10], |_| ());
        assert_eq!(Channel::new(Subsystem::Netfilter).unwrap().submit(&mut batch).unwrap(), []);
        assert!(greeting("127.0.0.1:8080"));
        assert!(tool(&["ip", "link", "del", "gt0"]));
        assert!(greeting("127.0.0.1:8080"));
        let interface = engine.container(&id).unwrap().state.endpoints["bridge"].host_interface.clone();
        assert!(tool(&["ip", "link", "del", &interface]));
        assert!(greeting("127.0.0.1:8080"));
        engine.remove(&id, FORCE).await.unwrap();
        engine.close().await;
    });
}

#[test]
fn ports_lead_through_the_networks_that_there_are() {
    in_own_network(|| async {
        gantry_sys::netlink::loopback_up().unwrap();
        let place = Place::new();
        let engine = place.open().await;
        let subnet = |text: &str| SubnetRequest { subnet: text.to_owned(), ..SubnetRequest::default() };
        let six = CreateNetwork {
            name: "six".to_owned(),
            ipv6: true,
            subnets: vec![subnet("fd00:7::/64")],
            ..CreateNetwork::default()
        };
        engine.create_network(six).await.unwrap();
        let inner = CreateNetwork { name: "inner".to_owned(), internal: true, ..CreateNetwork::default() };
        engine.create_network(inner).await.unwrap();
        for round in 0..4 {
            // Whatever order the networks have: the first that has a way out leads in, and is left again.
            let mut request = server(&[("", "8080")]);
            request.network.endpoints = ["inner", "six"]
                .map(|network| EndpointRequest { network: network.to_owned(), ..EndpointRequest::default() })
                .to_vec();
            let id = start(&engine, request).await;
            assert!(greeting("127.0.0.1:8080") && greeting("[::1]:8080"), "round {round}");
            // Through the network that is left, by rules for the other addresses and by a relay for the host's own.
            engine.disconnect("bridge", &id, false).await.unwrap();
            assert!(greeting("127.0.0.1:8080"), "round {round}");
            assert!(greeting("[::1]:8080") && greeting("[fd00:7::1]:8080"), "round {round}");
            engine.disconnect("six", &id, false).await.unwrap();
            // Who is only in a network without a way out is not reached.
            assert!(!says_hello("127.0.0.1:8080", Duration::from_millis(300)), "round {round}");
            engine.connect("bridge", &id, EndpointRequest::default()).await.unwrap();
            assert!(greeting("127.0.0.1:8080"), "round {round}");
            engine.remove(&id, FORCE).await.unwrap();
        }
        engine.remove_network("six").await.unwrap();
        engine.remove_network("inner").await.unwrap();
        engine.close().await;
    });
}
