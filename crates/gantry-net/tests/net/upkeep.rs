//! What is made, goes; what is left behind is found.

use std::time::Duration;

use gantry_net::{Desired, Disturbance, Error, Protocol, Watch};
use gantry_sys::netlink::{Batch, Channel, Subsystem};

use crate::kit::{HOST, OUTSIDE, ask, count, endpoint, inside, names, network, on_host, port, serve};

#[test]
fn an_engine_that_comes_back_adopts_and_cleans() {
    on_host("sync", |host| {
        let (one, two) = (host.network(1, |_| ()), host.network(2, |_| ()));
        let (a, b) = (host.container(&one, 2), host.container(&two, 2));
        host.net.publish(&[port("0.0.0.0", 8080, Protocol::Tcp, &a, 80)]).unwrap();
        host.net.publish(&[port("0.0.0.0", 8081, Protocol::Tcp, &b, 80)]).unwrap();
        serve(&a.netns, Protocol::Tcp, 80);
        let index = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"));
        assert!(index(&one.bridge).is_ok());

        // A new engine, which knows of the first network only, and of a container that is gone.
        let names_of = gantry_net::Names::new("gtt").unwrap();
        let again = gantry_net::Net::open(gantry_net::Options { names: names_of }).unwrap();
        let gone = "ffff00000000";
        let desired = Desired {
            networks: vec![one.clone()],
            endpoints: vec![endpoint(&one, 2).id, gone.to_owned()],
            ports: vec![port("0.0.0.0", 8080, Protocol::Tcp, &a, 80)],
        };
        let synced = again.sync(&desired).unwrap();
        assert_eq!(synced.bridges, [two.bridge.as_str()]);
        assert_eq!(synced.veths, [b.plan.veth.as_str()]);
        assert_eq!(synced.missing, [gone]);
        assert!(!names().contains(&two.bridge) && !names().contains(&b.plan.veth));
        assert_eq!(inside(host.outside(), || ask(Protocol::Tcp, &format!("{HOST}:8080"))), OUTSIDE);
        // The port of the one that is gone is free again, that of the other is not.
        again.publish(&[port("0.0.0.0", 8081, Protocol::Tcp, &a, 80)]).unwrap();
        let taken = again.publish(&[port("0.0.0.0", 8080, Protocol::Tcp, &a, 81)]).unwrap_err();
        assert_eq!(taken.to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
        let synced = again.sync(&desired).unwrap();
        assert_eq!((synced.bridges.len(), synced.veths.len()), (0, 0));

        // Somebody flushes all rules.
        assert!(again.is_intact().unwrap());
        crate::kit::remove_table(&again);
        assert!(!again.is_intact().unwrap());
        again.sync(&desired).unwrap();
        assert!(again.is_intact().unwrap());
        assert_eq!(inside(host.outside(), || ask(Protocol::Tcp, &format!("{HOST}:8080"))), OUTSIDE);

        let cleared = again.clear().unwrap();
        assert_eq!((cleared.bridges, cleared.veths), (vec![one.bridge.clone()], vec![a.plan.veth.clone()]));
        assert_eq!(count("gtt"), 0);
        assert!(again.clear().unwrap().bridges.is_empty());
    });
}

#[test]
fn bridges_of_others_are_left_alone() {
    on_host("others", |host| {
        let mut foreign = network(&host.net, 1);
        foreign.bridge = "up0".to_owned();
        let error = host.net.ensure_bridge(&foreign).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        host.net.remove_bridge(&foreign).unwrap();
        assert!(names().iter().any(|name| name == "up0"));
    });
}

#[test]
fn a_bridge_becomes_what_it_should_be() {
    on_host("bridge", |host| {
        let mut one = host.network(1, |network| network.mtu = Some(1400));
        let a = host.container(&one, 2);
        one.subnets[0].gateway = Some("10.1.0.254".parse().unwrap());
        one.mtu = Some(1300);
        host.net.ensure_bridge(&one).unwrap();
        host.net.ensure_bridge(&one).unwrap();
        let host_has = host.net.host().unwrap();
        let block = |text: &str| text.parse::<gantry_net::Cidr>().unwrap();
        assert!(host_has.taken.contains(&block("192.0.2.0/24")), "{host_has:?}");
        assert!(!host_has.taken.iter().any(|taken| taken.overlaps(&block("10.1.0.0/24"))), "{host_has:?}");
        assert_eq!((host_has.addresses[0].to_string().as_str(), host_has.mtu), (HOST, Some(1500)));
        serve(&a.netns, Protocol::Tcp, 80);
        assert_eq!(ask(Protocol::Tcp, "10.1.0.2:80"), "10.1.0.254");
        host.net.remove_bridge(&one).unwrap();
        host.net.remove_bridge(&one).unwrap();
        assert!(!names().contains(&one.bridge));
    });
}

#[test]
fn many_come_and_go() {
    on_host("many", |host| {
        let network = host.network(1, |_| ());
        let before = names();
        for round in 0..4 {
            let all: Vec<_> = (2..52).map(|last| host.container(&network, last)).collect();
            assert_eq!(count("gttv"), 50, "round {round}");
            for (number, container) in all.into_iter().enumerate() {
                if number % 5 == 0 {
                    host.net.detach(&container.plan).unwrap();
                    host.net.detach(&container.plan).unwrap();
                }
                container.remove();
            }
            // The kernel takes what belonged to the namespaces soon after they end.
            let end = std::time::Instant::now() + Duration::from_secs(10);
            while names() != before && std::time::Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(names(), before, "round {round}");
        }
    });
}

#[test]
fn an_attach_that_fails_leaves_nothing() {
    on_host("failed attach", |host| {
        let network = host.network(1, |_| ());
        let a = host.container(&network, 2);
        let plan = |interface: &str, last: u8| {
            let mut endpoint = endpoint(&network, last);
            endpoint.interface = interface.to_owned();
            gantry_net::plan::endpoint(host.net.names(), &network, &endpoint).unwrap()
        };
        // The second has a name that is taken in the namespace.
        let error = host.net.attach(&a.netns, &[plan("eth1", 3), plan("eth0", 4)]).unwrap_err();
        assert_eq!(error.errno(), Some(rustix::io::Errno::EXIST), "{error}");
        // A gateway that cannot be reached.
        let mut astray = plan("eth1", 3);
        astray.gateways = vec!["10.99.0.1".parse().unwrap()];
        host.net.attach(&a.netns, &[astray]).unwrap_err();
        assert_eq!(count("gttv"), 1);
        host.net.attach(&a.netns, &[plan("eth1", 3)]).unwrap();
        assert_eq!(inside(&a.netns, names).len(), 3);
    });
}

/// What is heard of within a second.
fn heard(runtime: &tokio::runtime::Runtime, watch: &mut Watch) -> Disturbance {
    let heard = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(1), watch.disturbed()).await });
    heard.map_or_else(|_| Disturbance::default(), Result::unwrap)
}

/// Has the kernel carry out one message for a device, by name.
fn change_link(kind: u16, name: &str, more: impl FnOnce(&mut gantry_sys::netlink::Body<'_>)) {
    let mut batch = Batch::new();
    batch.push(kind, 0, &[0; 16], |body| {
        body.text(3, name);
        more(body);
    });
    assert_eq!(Channel::new(Subsystem::Route).unwrap().submit(&mut batch).unwrap(), []);
}

#[test]
fn what_others_take_away_is_heard_of_and_comes_back() {
    on_host("disturbed", |host| {
        let one = host.network(1, |_| ());
        let (a, b) = (host.container(&one, 2), host.container(&one, 3));
        let port = port("0.0.0.0", 8080, Protocol::Tcp, &a, 80);
        host.net.publish(&[port]).unwrap();
        serve(&a.netns, Protocol::Tcp, 80);
        let reached = || inside(host.outside(), || ask(Protocol::Tcp, &format!("{HOST}:8080"))) == OUTSIDE;
        let desired = Desired {
            networks: vec![one.clone()],
            endpoints: vec![endpoint(&one, 2).id, endpoint(&one, 3).id],
            ports: vec![port],
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut watch = runtime.block_on(async { host.net.watch() }).unwrap();
        // What comes and goes in daily life disturbs nothing.
        host.net.unpublish(&[port]).unwrap();
        host.net.publish(&[port]).unwrap();
        host.container(&one, 4);
        assert_eq!(heard(&runtime, &mut watch), Disturbance::default());

        // All rules of the host are flushed.
        crate::kit::remove_table(&host.net);
        assert!(heard(&runtime, &mut watch).rules && !host.net.is_intact().unwrap());
        assert_eq!(host.net.restore(&desired).unwrap(), Vec::<String>::new());
        assert!(host.net.is_intact().unwrap() && reached());
        // To restore is told of too, and finds nothing more to do.
        let _ = watch.take().unwrap();
        // The rules alone, and not their table.
        let mut batch = Batch::new();
        batch.push(0x10, 0, &[0, 0, 0, 10], |_| ());
        batch.push(0xa08, 0, &[2, 0, 0, 0], |body| {
            body.text(1, host.net.names().table());
        });
        batch.push(0x11, 0, &[0, 0, 0, 10], |_| ());
        assert_eq!(Channel::new(Subsystem::Netfilter).unwrap().submit(&mut batch).unwrap(), []);
        assert!(heard(&runtime, &mut watch).rules && !host.net.is_intact().unwrap());
        host.net.restore(&desired).unwrap();
        assert!(host.net.is_intact().unwrap() && reached());
        let _ = watch.take().unwrap();

        // A device is taken from its bridge, another is removed, and then the bridge.
        change_link(16, &a.plan.veth, |body| {
            body.number(10, 0);
        });
        assert!(heard(&runtime, &mut watch).links.contains(&a.plan.veth));
        assert_eq!(host.net.restore(&desired).unwrap(), [endpoint(&one, 2).id]);
        change_link(17, &b.plan.veth, |_| ());
        assert!(heard(&runtime, &mut watch).links.contains(&b.plan.veth));
        change_link(17, &one.bridge, |_| ());
        assert!(heard(&runtime, &mut watch).links.contains(&one.bridge));
        let missing = host.net.restore(&desired).unwrap();
        assert_eq!(missing, [endpoint(&one, 2).id, endpoint(&one, 3).id]);
        for container in [&a, &b] {
            host.net.detach(&container.plan).unwrap();
            host.net.attach(&container.netns, std::slice::from_ref(&container.plan)).unwrap();
        }
        assert!(host.net.restore(&desired).unwrap().is_empty() && reached());
        assert_eq!(inside(&b.netns, || ask(Protocol::Tcp, "10.1.0.2:80")), "10.1.0.3");
    });
}
