//! Who reaches whom.

use gantry_net::Protocol::{Tcp, Udp};

use crate::kit::{HOST, Host, OUTSIDE, ask, ask_in_vain, inside, on_host, port, serve};

#[test]
fn containers_of_a_network_reach_each_other_the_host_and_the_outside() {
    on_host("reach", |host| {
        let network = host.network(1, |_| ());
        let (a, b) = (host.container(&network, 2), host.container(&network, 3));
        serve(&b.netns, Tcp, 80);
        serve(&b.netns, Udp, 53);
        serve(host.outside(), Tcp, 80);
        assert_eq!(inside(&a.netns, || ask(Tcp, "10.1.0.3:80")), "10.1.0.2");
        assert_eq!(inside(&a.netns, || ask(Udp, "10.1.0.3:53")), "10.1.0.2");
        assert_eq!(ask(Tcp, "10.1.0.3:80"), "10.1.0.1");
        // What leaves has the host's address.
        assert_eq!(inside(&a.netns, || ask(Tcp, &format!("{OUTSIDE}:80"))), HOST);
        assert!(ping(&a.netns, "10.1.0.3"));
        assert!(ping(&a.netns, "10.1.0.1"));
        assert!(ping(&a.netns, OUTSIDE));
        // Nobody comes in who was not asked for.
        inside(host.outside(), || route_to_host("10.1.0.0/24"));
        assert_eq!(inside(host.outside(), || ask_in_vain(Tcp, "10.1.0.3:80")), "nothing");
    });
}

#[test]
fn published_ports() {
    on_host("published_ports", |host| {
        filter_bridges("0");
        published(host);
    });
    on_host("published_ports_with_filtered_bridges", |host| {
        if filter_bridges("1") {
            published(host);
        }
    });
}

/// Whether bridges hand packets through the rules for IP themselves (br_netfilter), as set.
fn filter_bridges(value: &str) -> bool {
    let done = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", value).is_ok();
    if !done && value == "1" {
        println!("skipped: bridges that are filtered: the kernel has no br_netfilter");
    }
    done
}

fn published(host: &Host) {
    let (one, two) = (host.network(1, |_| ()), host.network(2, |_| ()));
    let (a, b, c) = (host.container(&one, 2), host.container(&one, 3), host.container(&two, 2));
    for protocol in [Tcp, Udp] {
        serve(&a.netns, protocol, 80);
        let everywhere = port("0.0.0.0", 8080, protocol, &a, 80);
        let loopback = port("127.0.0.1", 8081, protocol, &a, 80);
        let outer = port(HOST, 8082, protocol, &a, 80);
        host.net.publish(&[everywhere, loopback, outer]).unwrap();
        let from = |netns, to: &str| inside(netns, || ask(protocol, to));
        let in_vain = |netns, to: &str| inside(netns, || ask_in_vain(protocol, to));
        // From outside, with the client's own address; and not where it is not published.
        assert_eq!(from(host.outside(), &format!("{HOST}:8080")), OUTSIDE, "{protocol}");
        assert_eq!(from(host.outside(), &format!("{HOST}:8082")), OUTSIDE, "{protocol}");
        assert_eq!(in_vain(host.outside(), &format!("{HOST}:8081")), "nothing", "{protocol}");
        // From the host, by each of its addresses.
        assert_eq!(ask(protocol, "127.0.0.1:8080"), "10.1.0.1", "{protocol}");
        assert_eq!(ask(protocol, "127.0.0.1:8081"), "10.1.0.1", "{protocol}");
        assert_eq!(ask(protocol, "10.2.0.1:8080"), "10.2.0.1", "{protocol}");
        assert_ne!(ask(protocol, &format!("{HOST}:8082")), "nothing", "{protocol}");
        assert_eq!(ask_in_vain(protocol, "127.0.0.1:8082"), "nothing", "{protocol}");
        // From another container of the network, from the container itself, and from another network.
        assert_eq!(from(&b.netns, &format!("{HOST}:8080")), "10.1.0.1", "{protocol}");
        assert_eq!(from(&b.netns, "10.1.0.1:8080"), "10.1.0.1", "{protocol}");
        assert_eq!(from(&a.netns, "10.1.0.1:8080"), "10.1.0.1", "{protocol}");
        assert_ne!(from(&c.netns, &format!("{HOST}:8080")), "nothing", "{protocol}");
        assert_eq!(in_vain(&c.netns, "10.1.0.2:80"), "nothing", "{protocol}");

        host.net.unpublish(&[everywhere, loopback]).unwrap();
        assert_eq!(in_vain(host.outside(), &format!("{HOST}:8080")), "nothing", "{protocol}");
        assert_eq!(ask_in_vain(protocol, "127.0.0.1:8081"), "nothing", "{protocol}");
        assert_eq!(from(host.outside(), &format!("{HOST}:8082")), OUTSIDE, "{protocol}");
        host.net.unpublish(&[outer]).unwrap();
    }
}

#[test]
fn loopback_of_the_host_stays_its_own() {
    on_host("loopback", |host| {
        let network = host.network(1, |_| ());
        let a = host.container(&network, 2);
        let server = std::net::UdpSocket::bind("127.0.0.1:9000").unwrap();
        // A container that sends what is for loopback out of its door.
        inside(&a.netns, || {
            change(21, &[2, 8, 0, 0, 1, 0, 0, 0], &[(2, &[127, 0, 0, 1])]);
            route("127.0.0.0/8", "10.1.0.1");
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
        });
        let client = inside(&a.netns, || std::net::UdpSocket::bind("10.1.0.2:0")).unwrap();
        let arrives = |patience| {
            client.send_to(b"?", "127.0.0.1:9000").unwrap();
            server.set_read_timeout(Some(std::time::Duration::from_millis(patience))).unwrap();
            server.recv_from(&mut [0; 8]).is_ok()
        };
        assert!(!arrives(300));
        // Without our rules it would.
        crate::kit::remove_table(&host.net);
        assert!(arrives(5000));
    });
}

#[test]
fn networks_are_apart() {
    on_host("networks_are_apart", |host| {
        let (one, two) = (host.network(1, |_| ()), host.network(2, |_| ()));
        let (a, b) = (host.container(&one, 2), host.container(&two, 2));
        serve(&b.netns, Tcp, 80);
        assert_eq!(ask(Tcp, "10.2.0.2:80"), "10.2.0.1");
        assert_eq!(inside(&a.netns, || ask_in_vain(Tcp, "10.2.0.2:80")), "nothing");
        assert!(!ping(&a.netns, "10.2.0.2"));
    });
}

#[test]
fn internal_networks_have_no_way_out_or_in() {
    on_host("internal", |host| {
        let inner = host.network(1, |network| network.internal = true);
        let outer = host.network(2, |_| ());
        let (a, b, c) = (host.container(&inner, 2), host.container(&inner, 3), host.container(&outer, 2));
        serve(&b.netns, Tcp, 80);
        serve(&c.netns, Tcp, 80);
        serve(host.outside(), Tcp, 80);
        assert_eq!(inside(&a.netns, || ask(Tcp, "10.1.0.3:80")), "10.1.0.2");
        host.net.publish(&[port("0.0.0.0", 8080, Tcp, &c, 80)]).unwrap();
        // Even with a route there is no way.
        for netns in [&a.netns, &b.netns] {
            inside(netns, || route("0.0.0.0/0", "10.1.0.1"));
        }
        assert_eq!(inside(&a.netns, || ask_in_vain(Tcp, &format!("{OUTSIDE}:80"))), "nothing");
        assert_eq!(inside(&a.netns, || ask_in_vain(Tcp, "10.1.0.1:8080")), "nothing");
        assert_eq!(inside(&c.netns, || ask_in_vain(Tcp, "10.1.0.3:80")), "nothing");
        host.net.publish(&[port("0.0.0.0", 8081, Tcp, &b, 80)]).unwrap();
        assert_eq!(inside(host.outside(), || ask_in_vain(Tcp, &format!("{HOST}:8081"))), "nothing");
        // A network that is internal no more has its way out at once.
        host.network(1, |_| ());
        assert_eq!(inside(&a.netns, || ask(Tcp, &format!("{OUTSIDE}:80"))), HOST);
    });
}

#[test]
fn containers_that_may_not_talk_are_reached_by_published_ports_only() {
    on_host("icc", |host| {
        // What a filtered bridge hands on itself does not pass between devices that are isolated.
        filter_bridges("0");
        let network = host.network(1, |network| network.icc = false);
        let (a, b) = (host.container(&network, 2), host.container(&network, 3));
        serve(&b.netns, Tcp, 80);
        serve(host.outside(), Tcp, 80);
        assert_eq!(inside(&a.netns, || ask_in_vain(Tcp, "10.1.0.3:80")), "nothing");
        assert_eq!(inside(&a.netns, || ask(Tcp, &format!("{OUTSIDE}:80"))), HOST);
        assert_eq!(ask(Tcp, "10.1.0.3:80"), "10.1.0.1");
        // By way of the host neither.
        inside(&a.netns, || route("10.1.0.3/32", "10.1.0.1"));
        assert_eq!(inside(&a.netns, || ask_in_vain(Tcp, "10.1.0.3:80")), "nothing");
        host.net.publish(&[port("0.0.0.0", 8080, Tcp, &b, 80)]).unwrap();
        assert_eq!(inside(&a.netns, || ask(Tcp, "10.1.0.1:8080")), "10.1.0.1");
    });
}

#[test]
fn without_masquerading_what_leaves_has_its_own_address() {
    on_host("masquerade", |host| {
        let network = host.network(1, |network| network.masquerade = false);
        let a = host.container(&network, 2);
        serve(host.outside(), Tcp, 80);
        inside(host.outside(), || route_to_host("10.1.0.0/24"));
        assert_eq!(inside(&a.netns, || ask(Tcp, &format!("{OUTSIDE}:80"))), "10.1.0.2");
    });
}

#[test]
fn datagrams_that_keep_coming_find_a_port_that_moves() {
    on_host("conntrack", |host| {
        let network = host.network(1, |_| ());
        let (a, b) = (host.container(&network, 2), host.container(&network, 3));
        serve(&a.netns, Udp, 80);
        serve(&b.netns, Udp, 80);
        let socket = inside(host.outside(), || std::net::UdpSocket::bind("0.0.0.0:4000")).unwrap();
        let to = format!("{HOST}:8080").parse().unwrap();
        let ask = || crate::kit::ask_datagram(&socket, to, std::time::Duration::from_millis(50));
        // The kernel remembers for half a minute at least, and longer with each datagram.
        let soon = |wanted: bool| {
            let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
            while std::time::Instant::now() < end {
                if ask().is_ok_and(|peer| peer == OUTSIDE) == wanted {
                    return true;
                }
            }
            false
        };
        assert!(ask().is_err(), "there is no port yet, and the kernel remembers that");
        let first = port("0.0.0.0", 8080, Udp, &a, 80);
        host.net.publish(&[first]).unwrap();
        assert!(soon(true), "the port does not lead to the container");
        host.net.unpublish(&[first]).unwrap();
        assert!(soon(false), "the port still leads to the container");
        a.remove();
        host.net.publish(&[port("0.0.0.0", 8080, Udp, &b, 80)]).unwrap();
        assert!(soon(true), "the port does not lead to the container");
    });
}

/// Whether an echo comes back from an address.
fn ping(netns: &gantry_net::Netns, to: &str) -> bool {
    use rustix::net::{AddressFamily, SocketAddrV4, SocketType, ipproto, sockopt};
    let to = SocketAddrV4::new(to.parse().unwrap(), 0);
    inside(netns, || {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, Some(ipproto::ICMP)).unwrap();
        let patience = Some(std::time::Duration::from_millis(500));
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, patience).unwrap();
        rustix::net::sendto(&socket, &[8, 0, 0, 0, 0, 0, 0, 1], rustix::net::SendFlags::empty(), &to).unwrap();
        let mut buffer = [0; 64];
        rustix::net::recv(&socket, &mut buffer, rustix::net::RecvFlags::empty()).is_ok_and(|(length, _)| length >= 8)
    })
}

/// Adds a route in the calling thread's namespace to the host.
fn route_to_host(to: &str) {
    route(to, HOST);
}

fn route(to: &str, gateway: &str) {
    let octets = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let (to, prefix) = to.split_once('/').unwrap();
    let prefix: u8 = prefix.parse().unwrap();
    let gateway = octets(gateway);
    let to = octets(to);
    let attributes: &[(u16, &[u8])] = if prefix > 0 { &[(1, &to), (5, &gateway)] } else { &[(5, &gateway)] };
    change(24, &[2, prefix, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0], attributes);
}

/// Has route netlink change something in the calling thread's namespace.
fn change(kind: u16, fixed: &[u8], attributes: &[(u16, &[u8])]) {
    let flags = if kind == 24 { 0x500 } else { 0 };
    let mut batch = gantry_sys::netlink::Batch::new();
    batch.push(kind, flags, fixed, |body| {
        for (kind, value) in attributes {
            body.put(*kind, value);
        }
    });
    let mut channel = gantry_sys::netlink::Channel::new(gantry_sys::netlink::Subsystem::Route).unwrap();
    assert_eq!(channel.submit(&mut batch).unwrap(), []);
}
