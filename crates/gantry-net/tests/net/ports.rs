//! Ports of the host that are held.

use std::net::{TcpListener, TcpStream, UdpSocket};

use gantry_net::Protocol::{self, Tcp, Udp};
use gantry_net::ports::{PortKeeper, PortRequest, Reservation};

use crate::kit::{HOST, on_host};

fn wish(host: &str, ports: Option<(u16, u16)>, protocol: Protocol) -> PortRequest {
    PortRequest { host: host.parse().unwrap(), ports: ports.map(|(first, last)| first..=last), protocol }
}

fn one(keeper: &PortKeeper, host: &str, port: u16, protocol: Protocol) -> Result<Reservation, String> {
    let mut held = keeper.reserve(&[wish(host, Some((port, port)), protocol)]).map_err(|error| error.to_string())?;
    Ok(held.remove(0))
}

#[test]
fn held_ports_are_nobody_elses() {
    on_host("held", |_| {
        let keeper = PortKeeper::new();
        for protocol in [Tcp, Udp] {
            let check = |host: &str, expect: &str| {
                assert_eq!(one(&keeper, host, 8080, protocol).err().as_deref(), Some(expect), "{protocol} {host}");
            };
            let bind = |address: &str| match protocol {
                Tcp => TcpListener::bind(address).is_ok(),
                Udp => UdpSocket::bind(address).is_ok(),
            };
            let everywhere = one(&keeper, "0.0.0.0", 8080, protocol).unwrap();
            let six = one(&keeper, "::", 8080, protocol).unwrap();
            assert_eq!((everywhere.port(), everywhere.protocol()), (8080, protocol));
            assert_eq!((everywhere.host(), six.host()), ("0.0.0.0".parse().unwrap(), "::".parse().unwrap()));
            check("0.0.0.0", "Bind for 0.0.0.0:8080 failed: port is already allocated");
            check("127.0.0.1", "Bind for 127.0.0.1:8080 failed: port is already allocated");
            check("::", "Bind for [::]:8080 failed: port is already allocated");
            assert!(!bind("0.0.0.0:8080") && !bind("127.0.0.1:8080") && !bind("[::]:8080"));
            drop((everywhere, six));

            let loopback = one(&keeper, "127.0.0.1", 8080, protocol).unwrap();
            check("0.0.0.0", "Bind for 0.0.0.0:8080 failed: port is already allocated");
            assert!(!bind("127.0.0.1:8080"));
            let outer = one(&keeper, HOST, 8080, protocol).unwrap();
            drop((loopback, outer));
            assert!(bind("0.0.0.0:8080"));
            check(
                "192.0.2.77",
                &format!("failed to bind host port 192.0.2.77:8080/{protocol}: cannot assign requested address"),
            );
        }
    });
}

#[test]
fn ports_of_programs_are_left_to_them() {
    on_host("in use", |_| {
        let keeper = PortKeeper::new();
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let error = one(&keeper, "0.0.0.0", 8080, Tcp).unwrap_err();
        assert_eq!(error, "failed to bind host port 0.0.0.0:8080/tcp: address already in use");
        // All or none: the first wish is given up with the second.
        let wishes = [wish("0.0.0.0", Some((8079, 8079)), Tcp), wish("0.0.0.0", Some((8080, 8080)), Tcp)];
        assert!(keeper.reserve(&wishes).is_err());
        drop(one(&keeper, "0.0.0.0", 8079, Tcp).unwrap());
        // A connection that fades keeps nobody from the port.
        let client = TcpStream::connect("127.0.0.1:8080").unwrap();
        drop(listener.accept().unwrap());
        drop((client, listener));
        one(&keeper, "0.0.0.0", 8080, Tcp).unwrap();
    });
}

#[test]
fn ports_are_chosen() {
    on_host("chosen", |_| {
        let keeper = PortKeeper::new();
        let any = || keeper.reserve(&[wish("0.0.0.0", None, Tcp)]).unwrap().remove(0);
        let _listener = TcpListener::bind("127.0.0.1:32769").unwrap();
        let (a, b) = (any(), any());
        assert_eq!((a.port(), b.port()), (32768, 32770));
        drop((a, b));
        assert_eq!(any().port(), 32771);
        // Of a range the first that is free.
        let range = || keeper.reserve(&[wish("127.0.0.1", Some((9000, 9001)), Udp)]);
        let (a, b) = (range().unwrap(), range().unwrap());
        assert_eq!((a[0].port(), b[0].port()), (9000, 9001));
        assert_eq!(range().unwrap_err().to_string(), "Bind for 127.0.0.1 failed: all ports are allocated");
        #[expect(clippy::reversed_empty_ranges, reason = "this is what must be refused")]
        let empty = PortRequest { ports: Some(9001..=9000), ..wish("127.0.0.1", None, Udp) };
        assert!(keeper.reserve(&[empty]).is_err());
        assert!(keeper.reserve(&[wish("127.0.0.1", Some((0, 5)), Udp)]).is_err());
    });
}

#[test]
fn a_port_without_a_container_of_its_family_is_refused_at_once() {
    on_host("refused", |_| {
        let keeper = PortKeeper::new();
        let _held = [one(&keeper, "0.0.0.0", 8080, Tcp).unwrap(), one(&keeper, "::", 8080, Tcp).unwrap()];
        let refused = TcpStream::connect("[::1]:8080").unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}
