//! Ports of the host that are held.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};

use gantry_net::Protocol::{self, Tcp, Udp};
use gantry_net::ports::{PortKeeper, PortRequest, Reservation};

use crate::kit::{HOST, OUTSIDE, ask, ask_in_vain, inside, on_host, serve};

fn wish(host: &str, ports: Option<(u16, u16)>, protocol: Protocol) -> PortRequest {
    PortRequest { hosts: vec![host.parse().unwrap()], ports: ports.map(|(first, last)| first..=last), protocol }
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
fn addresses_of_one_wish_have_one_port() {
    on_host("one port", |_| {
        let keeper = PortKeeper::new();
        let both = |ports: Option<(u16, u16)>| {
            let hosts = vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()];
            keeper.reserve(&[PortRequest { hosts, ..wish("::", ports, Tcp) }])
        };
        // A program has the first over IPv6 alone, so that neither family gets it.
        let listener = TcpListener::bind("[::1]:32768").unwrap();
        let held = both(None).unwrap();
        assert_eq!(
            held.iter().map(|one| (one.host().is_ipv4(), one.port())).collect::<Vec<_>>(),
            [(true, 32769), (false, 32769)]
        );
        let error = both(Some((32768, 32768))).unwrap_err();
        assert_eq!(error.to_string(), "failed to bind host port [::]:32768/tcp: address already in use");
        drop(one(&keeper, "0.0.0.0", 32768, Tcp).unwrap());
        drop(listener);
    });
}

#[test]
fn many_who_choose_at_once_get_ports_of_their_own() {
    on_host("at once", |_| {
        let keeper = PortKeeper::new();
        let held = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|number| {
                    let (keeper, protocol) = (&keeper, if number % 4 == 0 { Udp } else { Tcp });
                    scope.spawn(move || {
                        let one = || keeper.reserve(&[wish("0.0.0.0", None, protocol)]).unwrap().remove(0);
                        // Some are given back meanwhile.
                        (0..40).filter_map(|round| Some(one()).filter(|_| round % 5 > 0)).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let different: HashSet<_> = held.iter().map(|held| (held.protocol(), held.port())).collect();
        assert_eq!((held.len(), different.len()), (256, 256));
    });
}

#[test]
fn what_the_kernel_leaves_to_a_port_is_relayed() {
    on_host("relayed", |host| {
        if !PortKeeper::has_ipv6() {
            println!("skipped: relayed: the kernel has no IPv6");
            return;
        }
        let network = host.network(1, |_| ());
        let a = host.container(&network, 2);
        let runtime = runtime();
        let keeper = PortKeeper::new();
        for protocol in [Tcp, Udp] {
            serve(&a.netns, protocol, 80);
            // It is free again at once, also after it was used.
            for _ in 0..3 {
                let mut held = one(&keeper, "::", 8080, protocol).unwrap();
                runtime.block_on(async { held.relay(SocketAddr::new(a.address(), 80)) }).unwrap();
                assert_eq!(ask(protocol, "[::1]:8080"), "10.1.0.1", "{protocol}");
                assert_eq!(ask(protocol, "[::1]:8080"), "10.1.0.1", "{protocol}");
                assert_eq!(ask_in_vain(protocol, "127.0.0.1:8080"), "nothing", "{protocol}");
                held.close();
            }
            assert_eq!(ask_in_vain(protocol, "[::1]:8080"), "nothing", "{protocol}");
        }
        // From IPv4 to IPv6 it is the same, and where nobody listens the connection ends.
        let mut held = one(&keeper, HOST, 8081, Tcp).unwrap();
        runtime.block_on(async { held.relay("[::1]:8082".parse().unwrap()) }).unwrap();
        assert_eq!(inside(host.outside(), || ask(Tcp, &format!("{HOST}:8081"))), "");
        let _server = answer_all("[::1]:8082");
        assert_eq!(
            inside(host.outside(), || exchange(&format!("{HOST}:8081"), OUTSIDE.as_bytes())),
            OUTSIDE.as_bytes()
        );
    });
}

#[test]
fn relayed_connections_end_one_way_after_the_other() {
    on_host("relayed whole", |_| {
        let (runtime, keeper) = (runtime(), PortKeeper::new());
        let _server = answer_all("127.0.0.1:8082");
        let mut held = one(&keeper, "::", 8080, Tcp).unwrap();
        runtime.block_on(async { held.relay("127.0.0.1:8082".parse().unwrap()) }).unwrap();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|number| ((number * 31) >> 8) as u8).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(exchange("[::1]:8080", &sent) == sent, "what came back is not what was sent"));
            }
        });
        // What is open ends with the port.
        let mut open = TcpStream::connect("[::1]:8080").unwrap();
        open.write_all(b"?").unwrap();
        held.close();
        open.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        assert!(matches!(open.read(&mut [0; 1]), Ok(0) | Err(_)));
        assert_eq!(TcpStream::connect("[::1]:8080").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A server that sends all back when all was sent; it ends with the test.
fn answer_all(address: &str) -> SocketAddr {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).and_then(|_| stream.write_all(&all))
            });
        }
    });
    address
}

/// Sends all, and returns what comes back.
fn exchange(to: &str, all: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    stream.write_all(all).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    back
}
