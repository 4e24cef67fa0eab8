//! Logs sent to servers of our own.

use std::io::Read as _;
use std::os::fd::OwnedFd;

use gantry_model::monitor::LogFormat;
use gantry_oci::monitor::Writer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::logs::options;
use crate::logs::tests::{Place, write};

const LIMIT: Duration = Duration::from_secs(20);

fn shipper(driver: &str, given: &[(&str, &str)]) -> Shipper {
    let map = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    options(driver, &map).unwrap().shipper.unwrap()
}

fn identity() -> Identity {
    Identity {
        id: "0123456789abcdef".to_owned(),
        name: "web".to_owned(),
        hostname: "h".to_owned(),
        ..Identity::default()
    }
}

/// Signals that say that the log has ended.
fn ended() -> (Signals, [watch::Sender<bool>; 2]) {
    let senders = [watch::Sender::new(true), watch::Sender::new(false)];
    (Signals { ended: senders[0].subscribe(), shutdown: senders[1].subscribe() }, senders)
}

async fn ship(place: &Place, shipper: &Shipper) {
    let (signals, _senders) = ended();
    let file = place.file(LogFormat::Local, 300, 100);
    let run = shipper.run(file, identity(), place.0.join("cursor"), signals);
    tokio::time::timeout(LIMIT, run).await.unwrap().unwrap();
}

#[tokio::test]
async fn syslog_over_tcp_goes_on_where_it_was() {
    let place = Place::new("syslog");
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", server.local_addr().unwrap());
    let shipper =
        shipper("syslog", &[("syslog-address", &address), ("tag", "{{.Name}}"), ("syslog-format", "rfc3164")]);
    shipper.check().await.unwrap();
    drop(server.accept().await.unwrap());
    let mut writer = Writer::open(place.file(LogFormat::Local, 300, 100)).unwrap();
    for numbers in [0..20, 20..45] {
        write(&mut writer, numbers.clone());
        let received = async {
            let mut text = String::new();
            server.accept().await.unwrap().0.read_to_string(&mut text).await.unwrap();
            text
        };
        let (text, ()) = tokio::join!(received, ship(&place, &shipper));
        let pid = std::process::id();
        let line = |number: u64| {
            let priority = if number.is_multiple_of(2) { 30 } else { 27 };
            format!("<{priority}>Jan  1 00:00:00 h web[{pid}]: line {number}\n")
        };
        assert_eq!(text, numbers.map(line).collect::<String>());
    }
}

#[tokio::test]
async fn fluentd_is_tried_again_until_it_acknowledges() {
    let place = Place::new("fluentd");
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap().to_string();
    let options = [("fluentd-address", &*address), ("fluentd-request-ack", "1"), ("fluentd-retry-wait", "10ms")];
    let shipper = shipper("fluentd", &options);
    write(&mut Writer::open(place.file(LogFormat::Local, 300, 100)).unwrap(), 0..3);
    let received = async {
        // The first is not acknowledged.
        let mut bytes = vec![0; 4096];
        let (mut stream, _) = server.accept().await.unwrap();
        let first = stream.read(&mut bytes).await.unwrap();
        assert!(first > 0);
        drop(stream);
        let (mut stream, _) = server.accept().await.unwrap();
        let mut again = vec![0; 4096];
        let second = stream.read(&mut again).await.unwrap();
        assert_eq!(bytes[..first], again[..second]);
        let id = b"0123456789ab-00000000-0000000000000000";
        assert!(again[..second].ends_with(&[b"\x81\xa5chunk\xd9\x26", &id[..]].concat()));
        stream.write_all(&[b"\x81\xa3ack\xd9\x26", &id[..]].concat()).await.unwrap();
        stream
    };
    let (_stream, ()) = tokio::join!(received, ship(&place, &shipper));
    let position = load(&place.0.join("cursor")).unwrap();
    assert_eq!(position.number, 1);
    assert!(position.offset > 0);
}

#[tokio::test]
async fn gelf_over_udp() {
    let place = Place::new("gelf");
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = format!("udp://{}", server.local_addr().unwrap());
    let shipper = shipper("gelf", &[("gelf-address", &address), ("gelf-compression-type", "none")]);
    write(&mut Writer::open(place.file(LogFormat::Local, 300, 100)).unwrap(), 0..4);
    ship(&place, &shipper).await;
    for number in 0..4 {
        let mut bytes = vec![0; 4096];
        let got = tokio::time::timeout(LIMIT, server.recv(&mut bytes)).await.unwrap().unwrap();
        let message: serde_json::Value = serde_json::from_slice(&bytes[..got]).unwrap();
        assert_eq!(message["short_message"], format!("line {number}"));
        assert_eq!(message["_container_id"], identity().id);
    }
}

#[tokio::test]
async fn what_nobody_takes_is_given_up_where_that_is_asked_for() {
    let place = Place::new("given-up");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let options = [("fluentd-address", &*gone), ("fluentd-max-retries", "2"), ("fluentd-retry-wait", "1ms")];
    write(&mut Writer::open(place.file(LogFormat::Local, 300, 100)).unwrap(), 0..3);
    let shipper = shipper("fluentd", &options);
    assert!(shipper.check().await.is_err());
    ship(&place, &shipper).await;
    assert!(load(&place.0.join("cursor")).unwrap().offset > 0);
}

#[tokio::test]
async fn a_shipper_stops_and_keeps_what_was_not_sent() {
    let place = Place::new("stops");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let shipper = shipper("fluentd", &[("fluentd-address", &gone)]);
    write(&mut Writer::open(place.file(LogFormat::Local, 300, 100)).unwrap(), 0..3);
    let (signals, [_ended, shutdown]) = ended();
    let file = place.file(LogFormat::Local, 300, 100);
    let run = shipper.run(file, identity(), place.0.join("cursor"), signals);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        shutdown.send_replace(true);
    };
    let (done, ()) = tokio::join!(tokio::time::timeout(LIMIT, run), stop);
    done.unwrap().unwrap();
    assert_eq!(load(&place.0.join("cursor")).unwrap(), Position::default());
}

#[test]
fn the_journal_gets_big_messages_as_files() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};
    let place = Place::new("journal");
    let path = place.0.join("socket");
    let server: OwnedFd = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
    rustix::net::bind(&server, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    let journal = journald::Journal::connect(&path).unwrap();
    journal.send(b"MESSAGE=small\n").unwrap();
    let big = vec![b'x'; 4 << 20];
    journal.send(&big).unwrap();
    let mut bytes = [0; 64];
    let got = rustix::net::recv(&server, &mut bytes, rustix::net::RecvFlags::empty()).unwrap().0;
    assert_eq!(&bytes[..got], b"MESSAGE=small\n");
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let mut slices = [io::IoSliceMut::new(&mut bytes)];
    let flags = rustix::net::RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(&server, &mut slices, &mut ancillary, flags).unwrap();
    assert_eq!(received.bytes, 0);
    let file = ancillary.drain().find_map(|message| match message {
        rustix::net::RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    let mut file = std::fs::File::from(file.unwrap());
    io::Seek::rewind(&mut file).unwrap();
    let mut found = Vec::new();
    file.read_to_end(&mut found).unwrap();
    assert!(found == big);
}

#[test]
fn lines_in_parts_are_told_apart_though_they_have_one_time() {
    let mut parts = Parts::default();
    let mut next = |text: &str| {
        let part = parts.next(&Entry { time: 5, stream: Stream::Stdout, text: text.as_bytes().to_vec() });
        part.map(|part| (part.id, part.ordinal, part.last))
    };
    assert_eq!(next("whole\n"), None);
    assert_eq!([next("a"), next("b"), next("c\n")], [Some((6, 1, false)), Some((6, 2, false)), Some((6, 3, true))]);
    assert_eq!([next("d"), next("e\n")], [Some((7, 1, false)), Some((7, 2, true))]);
}
