//! Names, asked for from within containers.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gantry_net::dns::{Listener, Member, Resolver, View};

use crate::kit::{Container, Host, count, inside, on_host};

const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const RESOLVER: &str = "127.0.0.11:53";
/// A server that the host asks, and one that is none.
const UPSTREAM: &str = "127.0.0.1:5300";
const NOBODY: &str = "127.0.0.1:5301";

/// A question for a name.
fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// An answer as text: its code, whether it was cut, and the last four bytes of each record.
fn text(question: &[u8], answer: &[u8]) -> String {
    assert_eq!(answer[..2], question[..2], "the number of the question");
    assert_eq!(answer[12..question.len()], question[12..], "the question");
    let mut text = format!("code {}", answer[3] & 15);
    if answer[2] & 2 != 0 {
        text += " cut";
    }
    let mut at = question.len();
    for _ in 0..u16::from_be_bytes([answer[6], answer[7]]) {
        let length = usize::from(u16::from_be_bytes([answer[at + 10], answer[at + 11]]));
        let data = &answer[at + 12..at + 12 + length];
        at += 12 + length;
        let data = match <[u8; 4]>::try_from(data) {
            Ok(address) => Ipv4Addr::from(address).to_string(),
            Err(_) => String::from_utf8_lossy(data).replace(|c: char| c.is_control(), "."),
        };
        write!(text, " {data}").unwrap();
    }
    text
}

fn by_datagram(name: &str, kind: u16) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.connect(RESOLVER).unwrap();
    let question = question(name, kind);
    socket.send(&question).unwrap();
    let mut buffer = [0; 4096];
    match socket.recv(&mut buffer) {
        Ok(length) => text(&question, &buffer[..length]),
        Err(error) => error.to_string(),
    }
}

fn by_stream(name: &str, kind: u16) -> String {
    let mut stream = TcpStream::connect(RESOLVER).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let question = question(name, kind);
    stream.write_all(&framed(&question)).unwrap();
    text(&question, &unframed(&mut stream).unwrap())
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

fn unframed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// A name server of the host: `big.*` has more addresses than go into a datagram, `failed.*` is an error, `lost.*` has
/// no answer, all else has one. It counts its questions.
fn upstream() -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let udp = UdpSocket::bind(UPSTREAM).unwrap();
    let tcp = TcpListener::bind(UPSTREAM).unwrap();
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = udp.recv_from(&mut buffer) {
            counted.fetch_add(1, Ordering::SeqCst);
            let message = &buffer[..length];
            match message.get(14) {
                Some(b'i') => drop(udp.send_to(&reply(message, 0x83, 0, 0), client)),
                Some(b'a') => drop(udp.send_to(&reply(message, 0x81, 2, 0), client)),
                Some(b'o') => {}
                // A forger who does not know the number comes first.
                _ => {
                    let mut forged = reply(message, 0x81, 0, 2);
                    forged[0] ^= 0xff;
                    let _ = udp.send_to(&forged, client);
                    let _ = udp.send_to(&reply(message, 0x81, 0, 1), client);
                }
            }
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            if let Ok(message) = unframed(&mut stream) {
                let _ = stream.write_all(&framed(&reply(&message, 0x81, 0, 60)));
            }
        }
    });
    count
}

fn reply(question: &[u8], flags: u8, code: u8, records: u8) -> Vec<u8> {
    let mut reply = question.to_vec();
    (reply[2], reply[3], reply[7]) = (flags, 0x80 | code, records);
    for number in 0..records {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 100 + number]);
    }
    reply
}

/// A container with a server of names in its namespace.
struct World {
    resolver: Resolver,
    container: Container,
    listener: Option<Listener>,
    runtime: tokio::runtime::Runtime,
}

fn world(host: &Host, upstreams: &[&str]) -> World {
    let network = host.network(1, |_| ());
    let container = host.container(&network, 2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let resolver = Resolver::new();
    resolver.change(|zone| {
        zone.set_network(&network.id, "front");
        for (key, address) in [("one", "10.1.0.2"), ("two", "10.1.0.3")] {
            let names = vec![key.to_owned(), "both".to_owned()];
            zone.insert(&network.id, key, Member { names, addresses: vec![address.parse().unwrap()] });
        }
    });
    let upstreams: Vec<SocketAddr> = upstreams.iter().map(|text| text.parse().unwrap()).collect();
    let view = View { networks: vec![network.id.clone()], upstreams, ..View::default() };
    let context = runtime.enter();
    let listener = Some(resolver.listen(container.netns.as_fd(), view).unwrap());
    drop(context);
    World { resolver, container, listener, runtime }
}

impl World {
    fn check(&self, name: &str, kind: u16, expect: &str) {
        inside(&self.container.netns, || {
            assert_eq!(by_datagram(name, kind), expect, "{name} {kind} by datagram");
            assert_eq!(by_stream(name, kind), expect, "{name} {kind} by stream");
        });
    }
}

#[test]
fn names_of_containers() {
    on_host("names", |host| {
        let count = upstream();
        let world = world(host, &[UPSTREAM]);
        world.check("one", A, "code 0 10.1.0.2");
        world.check("Two.Front", A, "code 0 10.1.0.3");
        world.check("one", AAAA, "code 0");
        world.check("one", 15, "code 0");
        world.check("3.0.1.10.in-addr.arpa", PTR, "code 0 .two.front.");
        let both = inside(&world.container.netns, || by_datagram("both", A));
        assert!(both == "code 0 10.1.0.2 10.1.0.3" || both == "code 0 10.1.0.3 10.1.0.2", "{both}");
        assert_eq!(count.load(Ordering::SeqCst), 0, "what is known is not asked of others");
        // Names change while questions are answered.
        world.resolver.change(|zone| zone.remove(&"01".repeat(32), "two"));
        world.check("both", A, "code 0 10.1.0.2");
        world.check("two", A, "code 0 192.0.2.100");
    });
}

#[test]
fn other_names_are_asked_of_others() {
    on_host("upstreams", |host| {
        let count = upstream();
        let world = world(host, &[NOBODY, UPSTREAM]);
        world.check("www.example", A, "code 0 192.0.2.100");
        assert_eq!(count.load(Ordering::SeqCst), 2);
        world.check("failed.example", A, "code 2");
        inside(&world.container.netns, || {
            assert_eq!(by_datagram("big.example", A), "code 0 cut");
            assert!(by_stream("big.example", A).starts_with("code 0 192.0.2.100 192.0.2.101"));
        });
        // Who waits for an answer that does not come keeps nobody waiting.
        std::thread::scope(|scope| {
            let lost = scope.spawn(|| inside(&world.container.netns, || by_datagram("lost.example", A)));
            std::thread::sleep(Duration::from_millis(100));
            let start = Instant::now();
            world.check("one", A, "code 0 10.1.0.2");
            world.check("www.example", A, "code 0 192.0.2.100");
            assert!(start.elapsed() < Duration::from_secs(2));
            assert_eq!(lost.join().unwrap(), "code 2");
        });
        // Without others, what is not known is not.
        let view = View { networks: vec!["01".repeat(32)], ..View::default() };
        world.listener.as_ref().unwrap().set_view(view);
        world.check("www.example", A, "code 3");
        world.check("one", A, "code 0 10.1.0.2");
    });
}

#[test]
fn clients_that_stall_or_talk_nonsense_harm_nobody() {
    on_host("stall", |host| {
        let world = world(host, &[]);
        let address: SocketAddr = RESOLVER.parse().unwrap();
        let idle: Vec<_> = inside(&world.container.netns, || {
            (0..100).map(|_| TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap()).collect()
        });
        world.check("one", A, "code 0 10.1.0.2");
        inside(&world.container.netns, || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for length in 0..40 {
                socket.send_to(&vec![0xff; length], address).unwrap();
                socket.send_to(&question("one", A)[..length.min(20)], address).unwrap();
            }
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&[0xff; 1000]).unwrap();
        });
        world.check("one", A, "code 0 10.1.0.2");
        drop(idle);
    });
}

#[test]
fn the_port_of_names_is_the_containers_own() {
    on_host("own port", |host| {
        let mut world = world(host, &[]);
        let netns = &world.container.netns;
        let udp = inside(netns, || UdpSocket::bind("0.0.0.0:53")).unwrap();
        let tcp = inside(netns, || TcpListener::bind("0.0.0.0:53")).unwrap();
        udp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        world.check("one", A, "code 0 10.1.0.2");
        let client = UdpSocket::bind("0.0.0.0:0").unwrap();
        client.send_to(b"for the container", "10.1.0.2:53").unwrap();
        let mut buffer = [0; 64];
        assert_eq!(udp.recv_from(&mut buffer).unwrap().0, 17);

        // A server that comes after another, as after a restart of the engine.
        let view = View { networks: vec!["01".repeat(32)], ..View::default() };
        let context = world.runtime.enter();
        let second = world.resolver.listen(world.container.netns.as_fd(), view).unwrap();
        drop(context);
        world.listener.replace(second);
        world.check("one", A, "code 0 10.1.0.2");

        // When the server and the container go, so does the namespace.
        let World { container, listener, runtime, .. } = world;
        drop((udp, tcp, listener));
        container.remove();
        runtime.shutdown_timeout(Duration::from_secs(5));
        let end = Instant::now() + Duration::from_secs(10);
        while count("gttv") > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(count("gttv"), 0);
    });
}
