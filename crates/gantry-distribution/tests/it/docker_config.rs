//! Credentials where other tools keep them: the file, and programs that guard secrets.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use gantry_distribution::{Credential, Credentials as _, DockerConfig};

/// A directory with a configuration and a helper, removed with its test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str, config: Option<&str>) -> Self {
        let path = std::env::temp_dir().join(format!("gantry-credentials-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        if let Some(config) = config {
            std::fs::write(path.join("config.json"), config).unwrap();
        }
        Self(path)
    }

    /// A helper that keeps one secret in a file beside it, by the protocol of credential helpers.
    fn helper(self, script: &str) -> Self {
        let path = self.0.join("docker-credential-safe");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn docker(&self) -> DockerConfig {
        let search = format!("{}:/usr/bin:/bin", self.0.display());
        DockerConfig::new(self.0.join("config.json"), search).with_helper_limit(std::time::Duration::from_secs(2))
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.0.join("config.json")).unwrap()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_file_keeps_what_else_it_holds() {
    let place = Place::new("file", Some(r#"{"HttpHeaders":{"X":"y"},"auths":{"old.test":{"auth":"YTpi"}}}"#));
    let docker = place.docker();
    assert_eq!(docker.get("old.test").unwrap(), Some(Credential::password("a", "b")));
    assert_eq!(docker.get("none.test").unwrap(), None);
    docker.store("new.test", &Credential::password("me", "secret")).unwrap();
    assert_eq!(docker.get("new.test").unwrap(), Some(Credential::password("me", "secret")));
    assert_eq!(place.json()["HttpHeaders"]["X"], "y");
    assert_eq!(mode(&place.0.join("config.json")), 0o600);
    assert!(docker.erase("new.test").unwrap() && !docker.erase("new.test").unwrap());
    assert_eq!((docker.get("new.test").unwrap(), docker.get("old.test").unwrap().is_some()), (None, true));
    assert_eq!(std::fs::read_dir(&place.0).unwrap().count(), 1, "nothing lies beside it");
}

#[test]
fn a_file_that_is_not_there_is_made() {
    let place = Place::new("absent", None);
    let docker = place.docker();
    assert_eq!(docker.get("a.test").unwrap(), None);
    docker.store("docker.io", &Credential::Identity { username: "me".into(), token: "t".into() }).unwrap();
    let found = docker.get("docker.io").unwrap();
    assert!(matches!(found, Some(Credential::Identity { token, .. }) if token == "t"));
    assert!(place.json()["auths"].get("https://index.docker.io/v1/").is_some(), "the name that others look for");
}

#[test]
fn a_damaged_file_is_left_alone() {
    let place = Place::new("damaged", Some("{\"auths\": "));
    let docker = place.docker();
    assert!(docker.get("a.test").is_err());
    assert!(docker.store("a.test", &Credential::password("me", "secret")).is_err());
    assert_eq!(std::fs::read_to_string(place.0.join("config.json")).unwrap(), "{\"auths\": ");
}

const SAFE: &str = r#"here=$(dirname "$0")
case $1 in
store) cat >"$here/kept" ;;
get) [ -e "$here/kept" ] || { echo "credentials not found in native keychain"; exit 1; }; cat "$here/kept" ;;
erase) rm -f "$here/kept" ;;
esac"#;

#[test]
fn helpers_keep_secrets() {
    for config in [r#"{"credsStore":"safe"}"#, r#"{"credHelpers":{"a.test":"safe"}}"#] {
        let place = Place::new(&format!("helper-{}", config.len()), Some(config)).helper(SAFE);
        let docker = place.docker();
        assert_eq!(docker.get("a.test").unwrap(), None);
        docker.store("a.test", &Credential::password("me", "secret")).unwrap();
        assert_eq!(docker.get("a.test").unwrap(), Some(Credential::password("me", "secret")));
        assert!(!place.json().to_string().contains("secret"));
        assert!(docker.erase("a.test").unwrap());
        assert_eq!(docker.get("a.test").unwrap(), None);
    }
}

#[test]
fn helpers_that_misbehave_do_no_harm() {
    let check = |name: &str, script: &str, expect: &str| {
        let place = Place::new(name, Some(r#"{"credsStore":"safe"}"#)).helper(script);
        let error = place.docker().get("a.test").unwrap_err().to_string();
        assert!(error.contains("docker-credential-safe") && error.contains(expect), "{name}: {error}");
    };
    check("hangs", "sleep 60", "");
    check("floods", "yes", "");
    check("fails", "echo no key; exit 3", "no key");
    check("lies", "echo '{'", "");
    let place = Place::new("missing", Some(r#"{"credsStore":"nowhere"}"#));
    assert!(place.docker().get("a.test").unwrap_err().to_string().contains("docker-credential-nowhere"));
    let place = Place::new("outside", Some(r#"{"credsStore":"../../bin/sh"}"#));
    assert!(place.docker().get("a.test").is_err(), "a name is no path");
}
