//! Proxies: a small real one, asked in both forms, with credentials, and past which some are spoken to.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Command;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gantry_distribution::{Anonymous, Client, Config, Error, Proxies, Proxy, Registry, Upload};
use gantry_model::image::media;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::fake::{Fake, noise, sha256};
use crate::push::open;
use crate::tls::{Authority, MANIFEST};
use crate::{config, reference, run};

/// `me` and `p@ss:word`, as the header has them.
const AUTHORIZATION: &str = "Basic bWU6cEBzczp3b3Jk";
/// As a URL has them.
const USER: &str = "me:p%40ss%3Aword";

/// A proxy that leads every host to the same address, and remembers who asked.
struct Through {
    address: String,
    target: String,
    /// What it answers everybody, in place of its work.
    refuses: Option<u16>,
    heads: Mutex<Vec<String>>,
}

impl Through {
    async fn start(listen: &str, target: &str, refuses: Option<u16>) -> Arc<Self> {
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let this = Arc::new(Self { address, target: target.to_owned(), refuses, heads: Mutex::default() });
        let proxy = this.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(proxy.clone().serve(stream));
            }
        });
        this
    }

    /// Serves one request. That fails when a client hangs up, which is its right.
    async fn serve(self: Arc<Self>, mut client: TcpStream) -> std::io::Result<()> {
        let mut read = vec![];
        while !read.ends_with(b"\r\n\r\n") {
            read.push(client.read_u8().await?);
        }
        let head = String::from_utf8(read).unwrap();
        self.heads.lock().unwrap().push(head.clone());
        let known = head
            .lines()
            .any(|line| line.to_lowercase().starts_with("proxy-authorization:") && line.ends_with(&AUTHORIZATION[6..]));
        if let Some(status) = self.refuses.or((!known).then_some(407)) {
            let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return client.write_all(answer.as_bytes()).await;
        }
        let mut server = TcpStream::connect(&self.target).await?;
        let (line, fields) = head.split_once("\r\n").unwrap();
        if line.starts_with("CONNECT ") {
            client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await?;
        } else {
            // What is for the proxy ends here, and the host goes out of the line (RFC 9112, 3.2.2).
            let [method, url, version] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let rest = url.strip_prefix("http://").expect("a proxy is asked with the whole URL");
            let path = &rest[rest.find('/').unwrap()..];
            let fields: Vec<&str> = fields.lines().filter(|f| !f.to_lowercase().starts_with("proxy-")).collect();
            let head = format!("{method} {path} {version}\r\nConnection: close\r\n{}\r\n", fields.join("\r\n"));
            server.write_all(head.as_bytes()).await?;
        }
        copy_bidirectional(&mut client, &mut server).await.map(drop)
    }

    /// The lines that it was asked with, without the version.
    fn lines(&self) -> Vec<String> {
        let line = |head: &String| head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        self.heads.lock().unwrap().iter().map(line).collect()
    }
}

fn with(proxy: Proxy, name: &str, registry: Registry) -> Client {
    let config = Config { proxy, registry: BTreeMap::from([(name.to_owned(), registry)]), ..config() };
    Client::new(config, Arc::new(Anonymous)).unwrap()
}

fn plain() -> Registry {
    Registry { plain_http: true, ..Registry::default() }
}

/// Pulls a manifest, and pushes it and a blob.
async fn back_and_forth(client: &Client, fake: &Fake, name: &str) {
    let pulled = client.manifest(&reference(name, "a:1")).await.unwrap();
    assert_eq!(pulled.bytes, MANIFEST);
    let bytes = Bytes::from(noise(500_000, 3));
    let upload = Upload::Known { digest: sha256(&bytes), size: bytes.len() as u64, open: open(&bytes) };
    client.push_blob(&reference(name, "a"), upload).await.unwrap();
    assert_eq!(fake.blob("a", &sha256(&bytes)).unwrap(), bytes);
    client.push_manifest(&reference(name, "a:2"), media::OCI_MANIFEST, MANIFEST.into()).await.unwrap();
    assert_eq!(fake.manifest("a", "2").unwrap(), MANIFEST);
    // What is for the proxy stays there.
    assert!(fake.seen().iter().all(|seen| !seen.headers.keys().any(|key| key.as_str().starts_with("proxy-"))));
}

async fn fake() -> Arc<Fake> {
    let fake = Fake::new().start().await;
    fake.put_manifest("a", "1", media::OCI_MANIFEST, MANIFEST);
    fake
}

#[test]
fn plain_http_is_asked_for_by_the_whole_url() {
    run(async {
        let fake = fake().await;
        let proxy = Through::start("127.0.0.1:0", &fake.address, None).await;
        let name = "registry.test:5000";
        let client = with(Proxy::Fixed(format!("http://{USER}@{}", proxy.address)), name, plain());
        back_and_forth(&client, &fake, name).await;
        let lines = proxy.lines();
        assert_eq!(lines[0], "GET http://registry.test:5000/v2/a/manifests/1");
        assert!(lines.iter().any(|line| line.starts_with("PUT http://registry.test:5000/v2/")), "{lines:?}");
    });
}

#[test]
fn https_goes_through_a_tunnel() {
    run(async {
        let authority = Authority::new("proxy");
        let (address, fake) = authority.serve(false).await;
        let proxy = Through::start("127.0.0.1:0", &address, None).await;
        let each = Proxies { https: Some(format!("{USER}@{}", proxy.address)), ..Proxies::default() };
        let registry = Registry { ca: vec![authority.file("ca.pem")], ..Registry::default() };
        back_and_forth(&with(Proxy::Each(each), "registry.test", registry), &fake, "registry.test").await;
        let lines = proxy.lines();
        assert!(lines.iter().all(|line| line == "CONNECT registry.test:443"), "{lines:?}");
    });
}

#[test]
fn a_proxy_that_refuses_says_so() {
    run(async {
        let fake = fake().await;
        let check = async |proxy: &Through, user: &str, secure: bool, expect: &str| {
            let registry = if secure { Registry::default() } else { plain() };
            let address = format!("http://{user}{}", proxy.address);
            let before = proxy.lines().len();
            let client = with(Proxy::Fixed(address), "registry.test", registry);
            let error = client.manifest(&reference("registry.test", "a:1")).await.unwrap_err();
            let text = error.to_string();
            let expect = expect.replace("PROXY", &proxy.address);
            assert!(text.contains(&expect) && !text.contains("secret"), "{text}");
            (error, proxy.lines().len() - before)
        };
        let proxy = Through::start("127.0.0.1:0", &fake.address, None).await;
        for secure in [true, false] {
            for user in ["", "me:secret@"] {
                let expect =
                    "registry.test: the proxy http://PROXY does not let us through: it wants a name and password";
                let (error, asked) = check(&proxy, user, secure, expect).await;
                assert!(matches!(error, Error::Proxy { .. }) && asked == 1, "{error:?}, asked {asked} times");
            }
        }
        let shut = Through::start("127.0.0.1:0", &fake.address, Some(403)).await;
        let (_, asked) = check(&shut, "", true, "the proxy http://PROXY does not let us through: it refuses").await;
        assert_eq!(asked, 1);
        // One that is not there may come back: it is asked again, and named in the end.
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let gone = Through { address: gone, target: String::new(), refuses: None, heads: Mutex::default() };
        for secure in [true, false] {
            check(&gone, "me:secret@", secure, "registry.test: through the proxy http://PROXY: ").await;
        }
        assert_eq!(fake.seen().len(), 0);
    });
}

/// An insecure registry is asked for in plain http where its proxy lets nobody through to its port.
#[test]
fn a_tunnel_that_is_refused_is_no_end() {
    run(async {
        let fake = fake().await;
        let open = Through::start("127.0.0.1:0", &fake.address, None).await;
        let insecure = Registry { insecure: true, ..Registry::default() };
        let client = with(Proxy::Fixed(format!("{USER}@{}", open.address)), "registry.test:5000", insecure);
        // The registry speaks no TLS, so the tunnel is of no use.
        client.manifest(&reference("registry.test:5000", "a:1")).await.unwrap();
        let expect = ["CONNECT registry.test:5000", "GET http://registry.test:5000/v2/a/manifests/1"];
        assert_eq!(open.lines(), expect);
    });
}

const CHILD: &str = "GANTRY_PROXY_CHILD";

/// Who is asked through the proxy and who is not, in a network of its own where all of them are here.
#[test]
fn the_environment_counts() {
    if !is_root() {
        // The harness would hide what is printed by a test that passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED proxy::the_environment_counts: it needs root");
        return;
    }
    let hosts = std::env::temp_dir().join(format!("gantry-proxy-hosts-{}", std::process::id()));
    std::fs::write(&hosts, "10.9.9.9 registry.test direct.lab.test lab.test\n").unwrap();
    let script = "ip link set lo up && ip address add 192.0.2.7/32 dev lo && ip address add 10.9.9.9/32 dev lo && \
                  mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-n", "-m", "sh", "-c", script]).arg(&hosts).arg(std::env::current_exe().unwrap());
    command.args(["proxy::what_the_environment_does", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env(CHILD, "1").env("HTTP_PROXY", format!("http://{USER}@127.0.0.1:3128"));
    command.env("https_proxy", format!("{USER}@127.0.0.1:3129"));
    command.env("NO_PROXY", ".lab.test, 192.0.2.0/24,10.9.9.9:5000");
    let output = command.output().unwrap();
    std::fs::remove_file(&hosts).unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|data| std::os::unix::fs::MetadataExt::uid(&data) == 0)
}

#[test]
#[ignore = "is run by the test of the environment, in a network of its own"]
fn what_the_environment_does() {
    assert!(std::env::var_os(CHILD).is_some(), "this is no test by itself");
    run(async {
        let fake = fake().await;
        for port in [5000, 5001] {
            let listener = TcpListener::bind(("0.0.0.0", port)).await.unwrap();
            let router = fake.router();
            tokio::spawn(async move { axum::serve(listener, router).await });
        }
        let proxy = Through::start("127.0.0.1:3128", &fake.address, None).await;
        let environment = || Proxy::Environment;
        for (name, proxied) in [
            ("registry.test:5000", true),
            ("lab.test:5000", true),
            ("direct.lab.test:5000", false),
            ("192.0.2.7:5001", false),
            ("10.9.9.9:5000", false),
            ("10.9.9.9:5001", true),
            ("127.0.0.1:5000", false),
        ] {
            let before = proxy.lines().len();
            let client = with(environment(), name, plain());
            client.manifest(&reference(name, "a:1")).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(proxy.lines().len() > before, proxied, "{name}: {:?}", proxy.lines());
        }
        let authority = Authority::new("environment");
        let (address, _secure) = authority.serve(false).await;
        let tunnels = Through::start("127.0.0.1:3129", &address, None).await;
        let registry = Registry { ca: vec![authority.file("ca.pem")], ..Registry::default() };
        let client = with(environment(), "registry.test", registry);
        client.manifest(&reference("registry.test", "a:1")).await.unwrap();
        assert_eq!(tunnels.lines(), ["CONNECT registry.test:443"]);
    });
}

/// What the environment says and cannot be used is told when it is needed, and not before.
#[test]
fn an_environment_that_makes_no_sense() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["proxy::a_senseless_environment", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, "1").env("HTTP_PROXY", "ftp://u:secret@proxy.test").env_remove("NO_PROXY");
    let output = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "is run by the test of a senseless environment"]
fn a_senseless_environment() {
    assert!(std::env::var_os(CHILD).is_some(), "this is no test by itself");
    run(async {
        let fake = fake().await;
        with(Proxy::Environment, &fake.address, plain()).manifest(&reference(&fake.address, "a:1")).await.unwrap();
        let client = with(Proxy::Environment, "registry.test", plain());
        let error = client.manifest(&reference("registry.test", "a:1")).await.unwrap_err();
        assert!(matches!(error, Error::Environment(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("HTTP_PROXY: ftp is no kind of proxy") && !text.contains("secret"), "{text}");
    });
}
