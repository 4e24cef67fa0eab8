//! Who may do what, by password, by token, and without either.

use crate::kit::{Call, Directory, Reply, Server};

const RULES: &str = "
[auth]
htpasswd = '@/users'
SCHEME
[[auth.rules]]
users = ['root']
repositories = ['**']
actions = ['pull', 'push', 'delete']
[[auth.rules]]
users = ['*']
repositories = ['team/**', 'home/{user}/*']
actions = ['pull', 'push']
[[auth.rules]]
users = ['anonymous']
repositories = ['public/*']
actions = ['pull']
";

pub fn start(scheme: &str) -> Server {
    let directory = Directory::new();
    let line = |name: &str, password: &str| format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap());
    let users = line("root", "r") + &line("ann", "a") + &line("bob", "b");
    std::fs::write(directory.path().join("users"), users).unwrap();
    Server::start_in(&RULES.replace("SCHEME", scheme), directory)
}

fn token(server: &Server, who: Option<(&str, &str)>, scopes: &str) -> Reply {
    let call = server.call("GET", &format!("/token?service=gantry{scopes}"));
    match who {
        Some((name, password)) => call.basic(name, password).send(),
        None => call.send(),
    }
}

/// Someone, what they do, where, and what comes of it.
fn matrix(server: &Server, send: impl Fn(Call, Option<(&'static str, &'static str)>, &str, &str) -> Reply) {
    let (root, ann) = (Some(("root", "r")), Some(("ann", "a")));
    let table = [
        (root, "push", "any/thing", 202),
        (root, "pull", "any/thing", 404),
        (root, "delete", "any/thing", 404),
        (ann, "push", "any/thing", 403),
        (ann, "pull", "any/thing", 403),
        (ann, "push", "team/app", 202),
        (ann, "pull", "team/app", 404),
        (ann, "delete", "team/app", 403),
        (ann, "push", "home/ann/x", 202),
        (ann, "push", "home/bob/x", 403),
        (ann, "pull", "public/x", 404),
        (ann, "push", "public/x", 403),
        (None, "pull", "public/x", 404),
        (None, "push", "public/x", 401),
        (None, "pull", "team/app", 401),
        (None, "pull", "public/x/y", 401),
    ];
    for (who, action, repository, expect) in table {
        let (method, path) = match action {
            "pull" => ("GET", format!("/v2/{repository}/manifests/x")),
            "push" => ("POST", format!("/v2/{repository}/blobs/uploads/")),
            _ => ("DELETE", format!("/v2/{repository}/manifests/x")),
        };
        let reply = send(server.call(method, &path), who, action, repository);
        assert_eq!(reply.status, expect, "{who:?} {action} {repository}: {}", reply.text());
        match expect {
            401 => drop(reply.refused(401, "UNAUTHORIZED")),
            403 => drop(reply.refused(403, "DENIED")),
            _ => {}
        }
    }
}

#[test]
fn by_password() {
    let server = start("scheme = 'basic'");
    matrix(&server, |call, who, _, _| match who {
        Some((name, password)) => call.basic(name, password).send(),
        None => call.send(),
    });
    let reply = server.get("/v2/").refused(401, "UNAUTHORIZED");
    assert_eq!(reply.header("www-authenticate"), Some(r#"Basic realm="gantry",charset="UTF-8""#));
    for (name, password) in
        [("ann", "b"), ("ann", ""), ("eve", "a"), ("anonymous", ""), ("*", "a"), ("ann", &"a".repeat(80))]
    {
        server.call("GET", "/v2/").basic(name, password).send().refused(401, "UNAUTHORIZED");
    }
    server.call("GET", "/v2/").basic("ann", "a").send().expect(200);
    for header in ["Basic", "Basic ???", "Digest x", "Bearer", "Bearer x.y.z", "Basic YW5u"] {
        server
            .call("GET", "/v2/public/x/tags/list")
            .header("Authorization", header)
            .send()
            .refused(401, "UNAUTHORIZED");
    }
}

#[test]
fn by_token() {
    let server = start("");
    matrix(&server, |call, who, action, repository| {
        let words = if action == "push" { "pull,push" } else { action };
        let answer = token(&server, who, &format!("&scope=repository:{repository}:{words}")).expect(200).json();
        let token = answer["token"].as_str().unwrap().to_owned();
        let reply = call.header("Authorization", &format!("Bearer {token}")).send();
        // A token without the right is asked to be exchanged only if that could help.
        assert!(!(reply.status == 401 && who.is_some()), "{}", reply.text());
        reply
    });
    let reply = server.get("/v2/team/app/tags/list").refused(401, "UNAUTHORIZED");
    let expect =
        format!(r#"Bearer realm="http://{}/token",service="gantry",scope="repository:team/app:pull""#, server.address);
    assert_eq!(reply.header("www-authenticate"), Some(expect.as_str()));
    token(&server, Some(("ann", "wrong")), "").refused(401, "UNAUTHORIZED");
    // A token is for what it was asked for, and for its time.
    let answer = token(&server, Some(("ann", "a")), "&scope=repository:team/app:pull").json();
    let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
    let with = |method: &str, path: &str| server.call(method, path).header("Authorization", &bearer).send();
    with("GET", "/v2/team/app/manifests/x").expect(404);
    with("GET", "/v2/").expect(200);
    with("POST", "/v2/team/app/blobs/uploads/").refused(401, "UNAUTHORIZED");
    with("GET", "/v2/team/other/manifests/x").refused(401, "UNAUTHORIZED");
    with("GET", "/token").refused(403, "DENIED");
    server.pass(299);
    with("GET", "/v2/team/app/manifests/x").expect(404);
    server.pass(1);
    with("GET", "/v2/team/app/manifests/x").refused(401, "UNAUTHORIZED");
}

#[test]
fn tokens_outlive_a_restart() {
    let mut server = start("");
    let answer = token(&server, Some(("ann", "a")), "&scope=repository:team/app:pull").json();
    let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
    server.restart();
    server.call("GET", "/v2/team/app/manifests/x").header("Authorization", &bearer).send().expect(404);
}

#[test]
fn a_mount_needs_the_right_to_read() {
    let server = start("scheme = 'basic'");
    let digest = crate::kit::digest_of(gantry_model::digest::Algorithm::Sha256, b"secret");
    let path = |repository: &str, rest: &str| format!("/v2/{repository}/blobs/uploads/{rest}");
    let push = path("any/secret", &format!("?digest={digest}"));
    server.call("POST", &push).basic("root", "r").body(b"secret").send().expect(201);
    let mount = path("team/app", &format!("?mount={digest}&from=any/secret"));
    server.call("POST", &mount).basic("ann", "a").send().expect(202);
    server.call("GET", &format!("/v2/team/app/blobs/{digest}")).basic("ann", "a").send().refused(404, "BLOB_UNKNOWN");
    server.call("POST", &mount).basic("root", "r").send().expect(201);
    let catalog = |name: &str, password: &str| server.call("GET", "/v2/_catalog").basic(name, password).send().json();
    assert_eq!(catalog("root", "r")["repositories"], serde_json::json!(["any/secret", "team/app"]));
    assert_eq!(catalog("ann", "a")["repositories"], serde_json::json!(["team/app"]));
    server.get("/v2/_catalog").refused(401, "UNAUTHORIZED");
}

#[test]
fn the_password_file_is_read_again() {
    let server = start("scheme = 'basic'");
    let path = server.directory.path().join("users");
    server.call("GET", "/v2/").basic("ann", "a").send().expect(200);
    std::fs::write(&path, format!("ann:{}\n", bcrypt::hash("new", 4).unwrap())).unwrap();
    server.pass(2);
    server.call("GET", "/v2/").basic("ann", "a").send().refused(401, "UNAUTHORIZED");
    server.call("GET", "/v2/").basic("ann", "new").send().expect(200);
    server.call("GET", "/v2/").basic("bob", "b").send().refused(401, "UNAUTHORIZED");
    // One that cannot be used changes nothing.
    std::fs::write(&path, "nonsense").unwrap();
    server.pass(2);
    server.call("GET", "/v2/").basic("ann", "new").send().expect(200);
}
