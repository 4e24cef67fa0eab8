//! What is made, goes; what is left behind is found.

use gantry_net::{Desired, Error, Protocol};

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
            let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while names() != before && std::time::Instant::now() < end {
                std::thread::sleep(std::time::Duration::from_millis(10));
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
