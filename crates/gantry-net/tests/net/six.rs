//! Networks that have IPv6 too.

use gantry_net::Protocol::{Tcp, Udp};
use gantry_net::{PortMapping, Subnet};

use crate::kit::{ask, ask_in_vain, inside, on_host, serve};

#[test]
fn both_families() {
    on_host("both_families", |host| {
        if !std::path::Path::new("/proc/sys/net/ipv6").exists() {
            println!("skipped: both_families: the kernel has no IPv6");
            return;
        }
        let subnet = |cidr: &str, gateway: &str| Subnet {
            cidr: cidr.parse().unwrap(),
            gateway: gateway.parse().ok(),
            ip_range: None,
            aux: std::collections::BTreeMap::new(),
        };
        let one = host.network(1, |network| network.subnets.push(subnet("fd00:1::/64", "fd00:1::1")));
        let two = host.network(2, |network| network.subnets.push(subnet("fd00:2::/64", "fd00:2::1")));
        let (a, b, c) = (host.container(&one, 2), host.container(&one, 3), host.container(&two, 2));
        serve(&a.netns, Tcp, 80);
        assert_eq!(inside(&b.netns, || ask(Tcp, "[fd00:1::2]:80")), "fd00:1::3");
        assert_eq!(inside(&b.netns, || ask(Tcp, "10.1.0.2:80")), "10.1.0.3");
        assert_eq!(ask(Tcp, "[fd00:1::2]:80"), "fd00:1::1");
        assert_eq!(inside(&c.netns, || ask_in_vain(Tcp, "[fd00:1::2]:80")), "nothing");
        let mapping = PortMapping {
            host: "::".parse().unwrap(),
            host_port: 8080,
            protocol: Tcp,
            target: "fd00:1::2".parse().unwrap(),
            target_port: 80,
        };
        host.net.publish(&[mapping]).unwrap();
        assert_eq!(inside(&b.netns, || ask(Tcp, "[fd00:1::1]:8080")), "fd00:1::1");
        assert_ne!(inside(&c.netns, || ask(Tcp, "[fd00:2::1]:8080")), "nothing");
        assert_ne!(ask(Tcp, "[fd00:2::1]:8080"), "nothing");
        host.net.unpublish(&[mapping]).unwrap();
        assert_eq!(inside(&b.netns, || ask_in_vain(Tcp, "[fd00:1::1]:8080")), "nothing");
        // From one family to the other there is no way.
        let crossed = PortMapping { host: "::".parse().unwrap(), target: a.address(), ..mapping };
        assert!(host.net.publish(&[crossed]).is_err());
        assert!(host.net.publish(&[PortMapping { protocol: Udp, ..mapping }]).is_ok());
    });
}
