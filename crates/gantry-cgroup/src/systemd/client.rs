//! A synchronous client of a D-Bus peer: systemd's own socket where it lets us in, else the message bus.

use std::io::{Read, Write as _};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::step::Bus;
use crate::systemd::Property;
use crate::systemd::wire::{Call, FIXED, Kind, Message, Writer, message_length};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const SYSTEMD_PATH: &str = "/org/freedesktop/systemd1";
const DBUS: &str = "org.freedesktop.DBus";

/// How long one call may take.
const CALL_SECONDS: u64 = 25;

/// Longest line of the authentication.
const MAX_LINE: usize = 4096;

/// Most jobs that are remembered while their reply is awaited.
const MAX_JOBS: usize = 1024;

pub(crate) struct Client {
    stream: UnixStream,
    address: String,
    serial: u32,
    /// Jobs that ended: their object and how.
    ended: Vec<(String, String)>,
}

/// The answer to a call: nothing more than what systemd says, which may be an error.
pub(crate) struct Reply(Message);

impl Reply {
    pub(crate) fn error_is(&self, name: &str) -> bool {
        self.0.kind == Kind::Error && self.0.error_name == name
    }

    /// Success, or the error in words.
    pub(crate) fn done(&self) -> Result<(), String> {
        if self.0.kind == Kind::Return {
            return Ok(());
        }
        let text = if self.0.signature.starts_with('s') { self.0.reader().string().unwrap_or_default() } else { "" };
        Err(format!("{} ({})", text, self.0.error_name))
    }

    /// The object path that the call returns.
    pub(crate) fn object_path(&self) -> Result<String, String> {
        self.done()?;
        if self.0.signature != "o" {
            return Err(format!("the reply is of type {:?} instead of an object path", self.0.signature));
        }
        self.0.reader().string().map(Into::into).map_err(|why| format!("the reply cannot be read: {why}"))
    }
}

/// Sockets to try, in their order: systemd's own, which needs no bus, then the bus.
fn sockets(bus: Bus) -> Vec<Socket> {
    let path = |path: &str| Socket::Path(path.into());
    match bus {
        Bus::System => {
            vec![(path("/run/systemd/private"), false).into(), (path("/run/dbus/system_bus_socket"), true).into()]
        }
        Bus::User => {
            let runtime = std::env::var("XDG_RUNTIME_DIR").ok().filter(|dir| dir.starts_with('/'));
            let mut out = Vec::new();
            if let Some(dir) = &runtime {
                out.push((path(&format!("{dir}/systemd/private")), false).into());
            }
            if let Some(address) = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok().and_then(|text| parse_address(&text))
            {
                out.push((address, true).into());
            }
            if let Some(dir) = &runtime {
                out.push((path(&format!("{dir}/bus")), true).into());
            }
            out
        }
    }
}

/// Where a peer listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Socket {
    Path(PathBuf),
    Abstract(Vec<u8>),
    /// A message bus, which wants to be greeted.
    Bus(Box<Socket>),
}

impl From<(Self, bool)> for Socket {
    fn from((socket, bus): (Self, bool)) -> Self {
        if bus { Self::Bus(Box::new(socket)) } else { socket }
    }
}

impl Socket {
    fn connect(&self) -> std::io::Result<UnixStream> {
        match self {
            Self::Path(path) => UnixStream::connect(path),
            Self::Abstract(name) => UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?),
            Self::Bus(socket) => socket.connect(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Abstract(name) => format!("@{}", String::from_utf8_lossy(name)),
            Self::Bus(socket) => socket.name(),
        }
    }
}

/// The first socket of an address list: `unix:path=/run/user/1000/bus,guid=...;...` (D-Bus Specification, Server Addresses).
fn parse_address(text: &str) -> Option<Socket> {
    text.split(';').find_map(|address| {
        address.strip_prefix("unix:")?.split(',').find_map(|pair| match pair.split_once('=')? {
            ("path", value) => Some(Socket::Path(String::from_utf8(unescape(value)?).ok()?.into())),
            ("abstract", value) => Some(Socket::Abstract(unescape(value)?)),
            _ => None,
        })
    })
}

/// Undoes the percent escapes of an address.
fn unescape(value: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            _ => byte,
        });
    }
    Some(out)
}

impl Client {
    pub(crate) fn connect(bus: Bus) -> Result<Self, Error> {
        let mut tried = String::new();
        for socket in sockets(bus) {
            match Self::open(&socket) {
                Ok(client) => return Ok(client),
                Err(error) => tried.extend([error.to_string(), "; ".to_owned()]),
            }
        }
        let what = match bus {
            Bus::System => "is systemd the init of this host? Use the cgroupfs driver otherwise",
            Bus::User => "is a user's service manager running (systemd --user), and XDG_RUNTIME_DIR set?",
        };
        Err(Error::Systemd { call: "connect to", unit: "the service manager".into(), why: format!("{tried}{what}") })
    }

    fn open(socket: &Socket) -> Result<Self, Error> {
        let address = socket.name();
        let fail = |error: std::io::Error| Error::Systemd {
            call: "connect to",
            unit: address.clone(),
            why: error.to_string(),
        };
        let stream = socket.connect().map_err(fail)?;
        let mut client = Self { stream, address: address.clone(), serial: 0, ended: Vec::new() };
        client.authenticate().map_err(fail)?;
        if matches!(socket, Socket::Bus(_)) {
            client
                .call_on(DBUS, "/org/freedesktop/DBus", DBUS, "Hello", "", &[])?
                .done()
                .map_err(|why| client.wrong(why))?;
            let mut rule = Writer::default();
            rule.string(
                "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',\
                 member='JobRemoved',path='/org/freedesktop/systemd1'",
            );
            let reply = client.call_on(DBUS, "/org/freedesktop/DBus", DBUS, "AddMatch", "s", rule.bytes())?;
            reply.done().map_err(|why| client.wrong(why))?;
            // systemd tells the bus about its jobs only while somebody asked for it.
            let reply = client.call("org.freedesktop.systemd1.Manager", "Subscribe", "", &[])?;
            reply.done().map_err(|why| client.wrong(why))?;
        }
        Ok(client)
    }

    /// SASL EXTERNAL: the peer knows our user by the socket, and is told which one we mean, in hexadecimal digits.
    fn authenticate(&mut self) -> std::io::Result<()> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let mut line = b"\0AUTH EXTERNAL ".to_vec();
        uid.bytes().for_each(|byte| line.extend(format!("{byte:02x}").bytes()));
        line.extend(b"\r\n");
        self.stream.set_write_timeout(Some(Duration::from_secs(CALL_SECONDS)))?;
        self.stream.set_read_timeout(Some(Duration::from_secs(CALL_SECONDS)))?;
        self.stream.write_all(&line)?;
        let mut answer = Vec::new();
        // Byte by byte: what follows the line is no longer the authentication's.
        while !answer.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
            if answer.len() > MAX_LINE {
                return Err(std::io::Error::other("the answer to the authentication does not end"));
            }
        }
        if !answer.starts_with(b"OK") {
            let answer = String::from_utf8_lossy(&answer).trim().to_owned();
            return Err(std::io::Error::other(format!("user {uid} is refused: {answer}")));
        }
        self.stream.write_all(b"BEGIN\r\n")
    }

    fn wrong(&self, why: impl Into<String>) -> Error {
        Error::Systemd { call: "talk to", unit: self.address.clone(), why: why.into() }
    }

    /// Calls a method of systemd's manager object, and waits for the answer.
    pub(crate) fn call(&mut self, interface: &str, member: &str, signature: &str, body: &[u8]) -> Result<Reply, Error> {
        self.call_on(SYSTEMD, SYSTEMD_PATH, interface, member, signature, body)
    }

    fn call_on(
        &mut self,
        destination: &str,
        path: &str,
        interface: &str,
        member: &str,
        signature: &str,
        body: &[u8],
    ) -> Result<Reply, Error> {
        self.serial += 1;
        let call = Call { serial: self.serial, destination, path, interface, member, signature, body };
        self.stream.write_all(&call.to_bytes()).map_err(|error| self.wrong(error.to_string()))?;
        let end = Instant::now() + Duration::from_secs(CALL_SECONDS);
        loop {
            let message = self.receive(end)?;
            match message.kind {
                Kind::Return | Kind::Error if message.reply_serial == self.serial => return Ok(Reply(message)),
                _ => self.remember(&message),
            }
        }
    }

    /// Reads one message, however many pieces it comes in.
    fn receive(&mut self, end: Instant) -> Result<Message, Error> {
        let mut fixed = [0; FIXED];
        self.fill(&mut fixed, end)?;
        let length = message_length(&fixed).map_err(|why| self.wrong(format!("a message cannot be read: {why}")))?;
        let mut bytes = fixed.to_vec();
        bytes.resize(length, 0);
        self.fill(&mut bytes[FIXED..], end)?;
        Message::parse(&bytes).map_err(|why| self.wrong(format!("a message cannot be read: {why}")))
    }

    fn fill(&mut self, mut buffer: &mut [u8], end: Instant) -> Result<(), Error> {
        while !buffer.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Timeout { what: format!("an answer from {}", self.address), seconds: CALL_SECONDS });
            }
            self.stream.set_read_timeout(Some(left)).map_err(|error| self.wrong(error.to_string()))?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(self.wrong("the connection was closed")),
                Ok(n) => buffer = &mut buffer[n..],
                Err(error) => match error.kind() {
                    std::io::ErrorKind::Interrupted | std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
                    }
                    _ => return Err(self.wrong(error.to_string())),
                },
            }
        }
        Ok(())
    }

    /// Keeps the end of a job, `JobRemoved(u id, o job, s unit, s result)`: it may come before the call that started it is
    /// answered.
    fn remember(&mut self, message: &Message) {
        if message.kind != Kind::Signal || message.member != "JobRemoved" || message.signature != "uoss" {
            return;
        }
        let mut reader = message.reader();
        let mut read = || {
            reader.u32()?;
            let job = reader.string()?.to_owned();
            reader.string()?;
            Ok::<_, &str>((job, reader.string()?.to_owned()))
        };
        if let Ok(entry) = read() {
            if self.ended.len() == MAX_JOBS {
                self.ended.remove(0);
            }
            self.ended.push(entry);
        }
    }

    /// Waits until a job ended, and says how: `done`, `canceled`, `timeout`, `failed`, `dependency` or `skipped`.
    pub(crate) fn wait_for_job(&mut self, job: &str, seconds: u64) -> Result<String, Error> {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(ended, _)| ended == job) {
                return Ok(result.clone());
            }
            let message = self.receive(end)?;
            self.remember(&message);
        }
    }

    /// A property of the manager that is a string.
    pub(crate) fn manager_property(&mut self, name: &str) -> Result<String, Error> {
        let mut body = Writer::default();
        body.string("org.freedesktop.systemd1.Manager");
        body.string(name);
        let reply = self.call("org.freedesktop.DBus.Properties", "Get", "ss", body.bytes())?;
        reply.done().map_err(|why| self.wrong(why))?;
        let mut reader = reply.0.reader();
        match (reply.0.signature.as_str(), reader.signature(), reader.string()) {
            ("v", Ok("s"), Ok(text)) => Ok(text.to_owned()),
            _ => Err(self.wrong(format!("property {name} is no string"))),
        }
    }

    /// The version of systemd, asked for only if a property depends on it.
    pub(crate) fn version_if_needed(&mut self, properties: &[Property]) -> Result<u32, Error> {
        if properties.iter().all(|property| property.since == 0) {
            return Ok(0);
        }
        Ok(parse_version(&self.manager_property("Version")?))
    }
}

/// The number in `252.39-1~deb12u1` or `v245`; 0 if there is none.
fn parse_version(text: &str) -> u32 {
    let digits = text.trim_start_matches('v');
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let path = |p: &str| Some(Socket::Path(p.into()));
        assert_eq!(parse_address("unix:path=/run/user/1000/bus,guid=1f"), path("/run/user/1000/bus"));
        assert_eq!(parse_address("tcp:host=x;unix:path=/a%20b"), path("/a b"));
        assert_eq!(parse_address("unix:abstract=/tmp/x"), Some(Socket::Abstract(b"/tmp/x".to_vec())));
        assert_eq!(parse_address("unix:path=/a%2"), None);
        assert_eq!(parse_address(""), None);
    }

    #[test]
    fn versions() {
        for (text, number) in [("252.39-1~deb12u1", 252), ("v245", 245), ("257", 257), ("x", 0), ("", 0)] {
            assert_eq!(parse_version(text), number);
        }
    }

    fn string(text: &str) -> Vec<u8> {
        let mut w = Writer::default();
        w.string(text);
        w.bytes().to_vec()
    }

    /// A message from the peer, with the fields that a client looks at.
    fn message(kind: u8, reply_to: u32, member: &str, signature: &str, body: &[u8]) -> Vec<u8> {
        let mut fields = vec![5, 1, b'u', 0];
        fields.extend(reply_to.to_le_bytes());
        for (code, kind, value) in [(3, b's', member), (8, b'g', signature)] {
            fields.resize(fields.len().next_multiple_of(8), 0);
            fields.extend([code, 1, kind, 0]);
            if kind == b's' {
                fields.extend(string(value));
            } else {
                fields.push(value.len() as u8);
                fields.extend(value.bytes());
                fields.push(0);
            }
        }
        let mut out = vec![b'l', kind, 1, 1];
        out.extend((body.len() as u32).to_le_bytes());
        out.extend(9_u32.to_le_bytes());
        out.extend((fields.len() as u32).to_le_bytes());
        out.extend(fields);
        out.resize(out.len().next_multiple_of(8), 0);
        out.extend(body);
        out
    }

    /// A peer that answers the authentication, then each call with what it is given; the end of the job comes first.
    #[test]
    fn conversation() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let peer = std::thread::spawn(move || {
            let mut line = vec![0; 1024];
            let n = theirs.read(&mut line).unwrap();
            let uid = rustix::process::geteuid().as_raw().to_string();
            let hex = uid.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
            assert_eq!(&line[..n], format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes());
            theirs.write_all(b"OK 1234deadbeef\r\n").unwrap();
            let mut begin = [0; 7];
            theirs.read_exact(&mut begin).unwrap();
            assert_eq!(&begin, b"BEGIN\r\n");
            let mut fixed = [0; FIXED];
            theirs.read_exact(&mut fixed).unwrap();
            let mut call = fixed.to_vec();
            call.resize(message_length(&fixed).unwrap(), 0);
            theirs.read_exact(&mut call[FIXED..]).unwrap();
            let call = Message::parse(&call).unwrap();
            assert_eq!(call.member, "StopUnit");
            let mut ended = Writer::default();
            ended.u32(7);
            ended.string("/job/7");
            ended.string("a.scope");
            ended.string("done");
            let bytes = message(4, 0, "JobRemoved", "uoss", ended.bytes());
            // In two pieces, as a socket may deliver it.
            theirs.write_all(&bytes[..20]).unwrap();
            theirs.write_all(&bytes[20..]).unwrap();
            theirs.write_all(&message(2, 1, "", "o", &string("/job/7"))).unwrap();
        });
        let mut client = Client { stream: ours, address: "test".into(), serial: 0, ended: Vec::new() };
        client.authenticate().unwrap();
        let reply = client.call("i", "StopUnit", "", &[]).unwrap();
        let job = reply.object_path().unwrap();
        assert_eq!(client.wait_for_job(&job, 5).unwrap(), "done");
        peer.join().unwrap();
        let closed = client.call("i", "X", "", &[]).map(|_| ()).unwrap_err().to_string();
        assert!(closed.contains("closed") || closed.contains("Broken pipe"), "{closed}");
    }
}
