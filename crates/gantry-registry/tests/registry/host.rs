//! Where clients are sent for tokens: to the host that they asked, by whichever protocol, and never to a guess.

use std::sync::Arc;

use gantry_distribution::{Client, Config, Fixed};
use gantry_model::Reference;
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;

use crate::kit::{Directory, RUNTIME, Server};
use crate::serving::certificate;

const TLS: &str = "[tls]\ncertificate = '@/cert.pem'\nkey = '@/key.pem'\n";

fn start(head: &str, tail: &str) -> (Server, rcgen::Certificate) {
    let directory = Directory::new();
    let made = certificate(&directory);
    std::fs::write(directory.path().join("users"), format!("ann:{}\n", bcrypt::hash("a", 4).unwrap())).unwrap();
    (Server::start_in(&format!("{head}[auth]\nhtpasswd = '@/users'\n{tail}"), directory), made.cert)
}

/// One request over HTTP/2, of which the URI and the `Host` header are given: status and challenge.
async fn ask(server: &Server, trusted: &rcgen::Certificate, uri: &str, host: Option<&str>) -> (u16, Option<String>) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = http::Request::get(uri);
    if let Some(host) = host {
        request = request.header("host", host);
    }
    let reply = sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
    connection.abort();
    let challenge = reply.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    (reply.status().as_u16(), challenge)
}

#[test]
fn over_http2() {
    let (server, trusted) = start("", TLS);
    let check = |uri: &str, host: Option<&str>, expect: Option<&str>| {
        let (status, challenge) = RUNTIME.block_on(ask(&server, &trusted, uri, host));
        let expect = expect.map(|at| format!("Bearer realm=\"https://{at}/token\",service=\"gantry\""));
        assert_eq!((status, challenge), (if expect.is_some() { 401 } else { 400 }, expect), "{uri} {host:?}");
    };
    check("https://registry.example.org/v2/", None, Some("registry.example.org"));
    check("https://registry.example.org:5000/v2/", None, Some("registry.example.org:5000"));
    check("https://[::1]:5000/v2/", None, Some("[::1]:5000"));
    check("https://one.example.org/v2/", Some("two.example.org"), Some("one.example.org"));
    check("https://user@one.example.org/v2/", None, None);
}

#[test]
fn over_http1() {
    let (server, _) = start("", "");
    let (elsewhere, _) = start("external_url = 'https://images.example.org/'\n", "");
    let check = |server: &Server, line: &str, host: &str, expect: &str| {
        let reply = server.raw("GET", &format!("GET {line}\r\nConnection: close\r\n{host}\r\n"));
        if expect.is_empty() {
            let reply = reply.refused(400, "UNSUPPORTED");
            assert_eq!(reply.header("www-authenticate"), None, "{line} {host}");
        } else {
            let expect = format!("Bearer realm=\"{expect}/token\",service=\"gantry\"");
            assert_eq!(reply.expect(401).header("www-authenticate"), Some(expect.as_str()), "{line} {host}");
        }
    };
    check(&server, "/v2/ HTTP/1.1", "Host: a.example.org:80\r\n", "http://a.example.org:80");
    check(&server, "http://b.example.org/v2/ HTTP/1.1", "Host: a.example.org\r\n", "http://b.example.org");
    for host in ["", "Host: \r\n", "Host: a\"b\r\n", "Host: a/b\r\n", "Host: a@b\r\n"] {
        check(&server, "/v2/ HTTP/1.1", host, "");
        check(&elsewhere, "/v2/ HTTP/1.1", host, "https://images.example.org");
    }
    check(&server, "/v2/ HTTP/1.0", "", "");
}

#[test]
fn our_client_finds_its_token() {
    let (server, _) = start("", TLS);
    let registry = format!("localhost:{}", server.address.port());
    let ca = server.directory.path().join("cert.pem");
    let settings = format!("proxy = 'none'\n[registry.'{registry}']\nca = ['{}']", ca.display());
    let fixed = |password: &str| {
        let credential = gantry_distribution::Credential::password("ann", password);
        let credentials = Arc::new(Fixed { registry: registry.clone(), credential });
        Client::new(Config::from_toml(&settings).unwrap(), credentials).unwrap()
    };
    let image = Reference::new(&registry, "team/app", Some("v1"), None).unwrap();
    let text = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, crate::kit::INDEX);
    RUNTIME.block_on(async {
        let client = fixed("a");
        let digest = client.push_manifest(&image, crate::kit::INDEX, text.clone().into()).await.unwrap();
        assert_eq!(client.resolve(&image).await.unwrap().digest, digest);
        assert_eq!(client.manifest(&image).await.unwrap().bytes, text.as_bytes());
        fixed("wrong").resolve(&image).await.unwrap_err();
    });
}
