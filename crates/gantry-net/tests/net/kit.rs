//! A host of its own for each test: a network namespace with a way out to another, in which nothing of the machine is.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gantry_net::{
    Endpoint, Mac, Names, Net, Netns, NetworkSpec, Options, PortMapping, Protocol, Subnet, create_netns, plan,
    remove_netns,
};
use gantry_sys::netlink::{Batch, Channel, Subsystem};

const NEWNET: i32 = 0x4000_0000;
/// How long something that must not come is waited for.
const SILENCE: Duration = Duration::from_millis(300);
/// How long something that must come is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The address of the host towards the outside.
pub const HOST: &str = "192.0.2.1";
/// The address of the one outside.
pub const OUTSIDE: &str = "192.0.2.2";

/// A host: the namespace of the calling thread.
pub struct Host {
    pub net: Net,
    dir: PathBuf,
    outside: Option<Netns>,
}

/// A container without processes.
pub struct Container {
    pub netns: Netns,
    pub plan: plan::EndpointPlan,
    path: PathBuf,
}

/// Runs a test in a host of its own. Where that cannot be made, the test is skipped and says so.
pub fn on_host(name: &str, test: impl FnOnce(&Host) + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| match gantry_sys::ns::unshare(NEWNET) {
            Ok(()) => {
                let host = Host::new();
                test(&host);
            }
            Err(error) => println!("skipped: {name}: no network namespace of its own: {error}"),
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Does something in a namespace, in a thread of its own.
pub fn inside<T: Send>(netns: &Netns, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            gantry_sys::ns::setns(netns.as_fd(), NEWNET).unwrap();
            act()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl Host {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // In memory, as such places are where an engine runs.
        let shm = PathBuf::from("/dev/shm");
        let parent = if shm.is_dir() { shm } else { std::env::temp_dir() };
        let dir = parent.join(format!("gantry-net-{}-{number}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        gantry_sys::netlink::loopback_up().unwrap();
        let net = Net::open(Options { names: Names::new("gtt").unwrap() }).unwrap();
        let mut host = Self { net, dir, outside: None };
        let outside = create_netns(&host.dir.join("outside")).unwrap();
        link_outside(&outside);
        host.outside = Some(outside);
        host
    }

    pub fn outside(&self) -> &Netns {
        self.outside.as_ref().unwrap()
    }

    /// A place for a namespace, which goes with the host.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A network `10.N.0.0/24`, after a change, with its bridge.
    pub fn network(&self, number: u8, change: impl FnOnce(&mut NetworkSpec)) -> NetworkSpec {
        let mut network = network(&self.net, number);
        change(&mut network);
        self.net.ensure_bridge(&network).unwrap();
        network
    }

    /// A container in a network, whose address ends in a number.
    pub fn container(&self, network: &NetworkSpec, last: u8) -> Container {
        let path = self.path(&format!("{}-{last}", network.name));
        let netns = create_netns(&path).unwrap();
        let plan = plan::endpoint(self.net.names(), network, &endpoint(network, last)).unwrap();
        self.net.attach(&netns, std::slice::from_ref(&plan)).unwrap();
        Container { netns, plan, path }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let _ = remove_netns(&entry.path());
        }
        let left = std::fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            left.unwrap();
        }
    }
}

impl Container {
    pub fn address(&self) -> IpAddr {
        self.plan.addresses[0].0
    }

    pub fn remove(self) {
        remove_netns(&self.path).unwrap();
    }
}

pub fn network(net: &Net, number: u8) -> NetworkSpec {
    let id = format!("{number:02x}").repeat(32);
    NetworkSpec {
        bridge: net.names().bridge(&id),
        id,
        name: format!("net{number}"),
        subnets: vec![Subnet {
            cidr: format!("10.{number}.0.0/24").parse().unwrap(),
            gateway: Some(format!("10.{number}.0.1").parse().unwrap()),
            ip_range: None,
            aux: std::collections::BTreeMap::new(),
        }],
        internal: false,
        icc: true,
        masquerade: true,
        mtu: None,
    }
}

pub fn endpoint(network: &NetworkSpec, last: u8) -> Endpoint {
    let address = |subnet: &Subnet| match subnet.cidr.address() {
        IpAddr::V4(ip) => IpAddr::from([ip.octets()[0], ip.octets()[1], ip.octets()[2], last]),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() + u128::from(last)).into()),
    };
    Endpoint {
        id: format!("{last:02x}{}", &network.id[..30]),
        interface: "eth0".to_owned(),
        mac: Mac::of_ipv4([10, network.id.as_bytes()[1] - b'0', 0, last].into()),
        addresses: network.subnets.iter().map(address).collect(),
        gateway: true,
    }
}

pub fn port(host: &str, host_port: u16, protocol: Protocol, target: &Container, target_port: u16) -> PortMapping {
    PortMapping { host: host.parse().unwrap(), host_port, protocol, target: target.address(), target_port }
}

/// Removes the rules, as one does who flushes those of a whole host.
pub fn remove_table(net: &Net) {
    let mut batch = Batch::new();
    batch.push(0x10, 0, &[0, 0, 0, 10], |_| ());
    batch.push(0xa02, 0, &[2, 0, 0, 0], |body| {
        body.text(1, net.names().table());
    });
    batch.push(0x11, 0, &[0, 0, 0, 10], |_| ());
    assert_eq!(Channel::new(Subsystem::Netfilter).unwrap().submit(&mut batch).unwrap(), []);
}

/// Numbers of devices of the calling thread's namespace, by the beginnings of their names.
pub fn count(prefix: &str) -> usize {
    names().iter().filter(|name| name.starts_with(prefix)).count()
}

/// Names of the devices of the calling thread's namespace.
pub fn names() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    text.lines().skip(2).filter_map(|line| line.split(':').next()).map(|name| name.trim().to_owned()).collect()
}

/// A server in a namespace, at every address, that tells each client the address it has there. It ends with its last
/// client: after as many as are expected, or when the test ends.
pub fn serve(netns: &Netns, protocol: Protocol, port: u16) {
    match protocol {
        Protocol::Tcp => {
            let listener =
                inside(netns, || TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port))));
            let listener = listener.unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    answer(stream);
                }
            });
        }
        Protocol::Udp => {
            let socket = inside(netns, || UdpSocket::bind(("0.0.0.0", port))).unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 16];
                while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
                }
            });
        }
    }
}

fn answer(mut stream: TcpStream) {
    if let Ok(peer) = stream.peer_addr() {
        let _ = stream.write_all(peer.ip().to_canonical().to_string().as_bytes());
    }
}

/// Asks a server from the calling thread's namespace: the address that it sees, or `nothing`.
pub fn ask(protocol: Protocol, to: &str) -> String {
    ask_for(protocol, to, PATIENCE)
}

/// The same, where no answer is expected.
pub fn ask_in_vain(protocol: Protocol, to: &str) -> String {
    ask_for(protocol, to, SILENCE)
}

fn ask_for(protocol: Protocol, to: &str, patience: Duration) -> String {
    let to: SocketAddr = to.parse().unwrap();
    let answer = match protocol {
        Protocol::Tcp => TcpStream::connect_timeout(&to, patience).and_then(|mut stream| {
            stream.set_read_timeout(Some(patience))?;
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        }),
        Protocol::Udp => {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).unwrap();
            ask_datagram(&socket, to, patience)
        }
    };
    answer.unwrap_or_else(|_| "nothing".to_owned())
}

/// Asks from a socket; an answer is waited for.
pub fn ask_datagram(socket: &UdpSocket, to: SocketAddr, patience: Duration) -> std::io::Result<String> {
    socket.set_read_timeout(Some(patience))?;
    socket.send_to(b"?", to)?;
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Joins the calling thread's namespace to the one outside, each with an address and the other as way out.
fn link_outside(outside: &Netns) {
    let (create, excl) = (0x400, 0x200);
    let link = |index: u32, up: u8| {
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        header[8] = up;
        header[12] = up;
        header
    };
    let mut batch = Batch::new();
    batch.push(16, create | excl, &link(100, 1), |body| {
        body.text(3, "up0").nest(18, |body| {
            body.put(1, b"veth").nest(2, |body| {
                body.nest_after(1, &link(101, 0), |body| {
                    body.text(3, "eth0").number(28, outside.as_fd().as_raw_fd().cast_unsigned());
                });
            });
        });
    });
    settle(&mut batch, 100, [192, 0, 2, 1], Some([192, 0, 2, 2]));
    assert_eq!(Channel::new(Subsystem::Route).unwrap().submit(&mut batch).unwrap(), []);
    let mut batch = Batch::new();
    batch.push(16, 0, &link(101, 1), |_| ());
    settle(&mut batch, 101, [192, 0, 2, 2], None);
    let mut channel = Channel::in_namespace(outside.as_fd(), Subsystem::Route).unwrap();
    assert_eq!(channel.submit(&mut batch).unwrap(), []);
}

fn settle(batch: &mut Batch, index: u32, address: [u8; 4], gateway: Option<[u8; 4]>) {
    let mut header = [2, 24, 0, 0, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    batch.push(20, 0x600, &header, |body| {
        body.put(2, &address).put(1, &address);
    });
    if let Some(gateway) = gateway {
        batch.push(24, 0x600, &[2, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0], |body| {
            body.put(5, &gateway).number(4, index);
        });
    }
}
