//! Plans as text.

use std::collections::BTreeMap;

use super::*;
use crate::{Endpoint, Mac, Names, NetworkSpec, PortMapping, Protocol, Subnet};

fn names() -> Names {
    Names::new("gtr").unwrap()
}

fn network(id: &str, subnets: &[(&str, &str)]) -> NetworkSpec {
    let subnet = |(cidr, gateway): &(&str, &str)| Subnet {
        cidr: cidr.parse().unwrap(),
        gateway: gateway.parse().ok(),
        ip_range: None,
        aux: BTreeMap::new(),
    };
    NetworkSpec {
        id: id.repeat(16),
        name: format!("net-{id}"),
        bridge: names().bridge(&id.repeat(16)),
        subnets: subnets.iter().map(subnet).collect(),
        internal: false,
        icc: true,
        masquerade: true,
        mtu: None,
    }
}

fn port(host: &str, host_port: u16, protocol: Protocol, target: &str, target_port: u16) -> PortMapping {
    PortMapping { host: host.parse().unwrap(), host_port, protocol, target: target.parse().unwrap(), target_port }
}

#[test]
fn rules_of_ipv4() {
    let plain = network("aa", &[("172.17.0.0/16", "172.17.0.1")]);
    let internal = NetworkSpec { internal: true, ..network("bb", &[("172.18.0.0/16", "172.18.0.1")]) };
    let strict = NetworkSpec { icc: false, masquerade: false, ..network("cc", &[("10.0.0.0/24", "10.0.0.1")]) };
    let ports = [
        port("0.0.0.0", 8080, Protocol::Tcp, "172.17.0.2", 80),
        port("127.0.0.1", 5353, Protocol::Udp, "172.17.0.3", 53),
        port("::", 8080, Protocol::Tcp, "fd00::2", 80),
    ];
    insta::assert_snapshot!(ruleset(&names(), Family::Ipv4, &[plain, internal, strict], &ports));
}

#[test]
fn rules_of_ipv6() {
    let network = network("aa", &[("172.17.0.0/16", "172.17.0.1"), ("fd00::/64", "fd00::1")]);
    let ports = [
        port("0.0.0.0", 8080, Protocol::Tcp, "172.17.0.2", 80),
        port("::", 8080, Protocol::Tcp, "fd00::2", 80),
        port("2001:db8::1", 8081, Protocol::Tcp, "fd00::2", 80),
    ];
    insta::assert_snapshot!(ruleset(&names(), Family::Ipv6, &[network], &ports));
}

#[test]
fn rules_of_a_resolver() {
    insta::assert_snapshot!(redirect([127, 0, 0, 11].into(), 40001, 40002));
}

#[test]
fn endpoints() {
    let dual = network("aa", &[("172.17.0.0/16", "172.17.0.1"), ("fd00::/64", "fd00::1")]);
    let internal = NetworkSpec { internal: true, icc: false, ..network("bb", &[("10.0.0.0/24", "10.0.0.1")]) };
    let endpoint_of = |addresses: &[&str], gateway| Endpoint {
        id: "0123456789abcdef".repeat(4),
        interface: "eth0".to_owned(),
        mac: Mac([2, 0x42, 172, 17, 0, 2]),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        gateway,
    };
    let check = |network: &NetworkSpec, wanted: &Endpoint| match endpoint(&names(), network, wanted) {
        Ok(plan) => plan.to_string(),
        Err(error) => error.to_string(),
    };
    let both = endpoint_of(&["172.17.0.2", "fd00::2"], true);
    let named = |interface: &str| Endpoint { interface: interface.to_owned(), ..both.clone() };
    let cases = [
        check(&dual, &both),
        check(&dual, &endpoint_of(&["172.17.0.2"], false)),
        check(&internal, &endpoint_of(&["10.0.0.2"], true)),
        check(&internal, &both),
        check(&dual, &named("a/b")),
        check(&dual, &named("eth%d")),
        check(&dual, &Endpoint { id: "0123".to_owned(), ..both.clone() }),
    ];
    insta::assert_snapshot!(cases.join("\n"));
}
