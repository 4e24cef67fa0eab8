//! What the daemon and its machine are, as `docker info` and `docker version` tell it.

use std::fmt::Write as _;

use crate::render::{table, units};
use crate::template::Value;

/// What is known of this program.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its version.
    pub version: String,
    /// The version of the API that is spoken.
    pub api: String,
    /// The newest version of the API that it speaks.
    pub newest: String,
    /// What it was built for.
    pub os: String,
    /// What it was built for.
    pub arch: String,
    /// Where the daemon is.
    pub host: String,
    /// Whether everything is logged.
    pub debug: bool,
}

/// The text of `info`, and the warnings of the daemon.
pub fn info(client: &Client, info: &Value) -> (String, Vec<String>) {
    let mut out = format!(
        "Client:\n Version:    {}\n Context:    {}\n Debug Mode: {}\n\nServer:\n",
        client.version, client.host, client.debug
    );
    counts(&mut out, info);
    plugins(&mut out, info);
    runtimes(&mut out, info);
    machine(&mut out, info);
    registries(&mut out, info);
    out.push('\n');
    (out, info.list("Warnings").iter().map(ToString::to_string).collect())
}

fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(out, " {name}: {value}");
}

fn filled(out: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        line(out, name, value);
    }
}

fn counts(out: &mut String, info: &Value) {
    for (name, field) in [
        ("Containers", "Containers"),
        (" Running", "ContainersRunning"),
        (" Paused", "ContainersPaused"),
        (" Stopped", "ContainersStopped"),
        ("Images", "Images"),
    ] {
        line(out, name, info.int(field));
    }
    filled(out, "Server Version", info.text("ServerVersion"));
    filled(out, "Storage Driver", info.text("Driver"));
    for pair in info.list("DriverStatus") {
        if let [name, value] = pair.items() {
            let _ = writeln!(out, "  {name}: {value}");
        }
    }
    filled(out, "Logging Driver", info.text("LoggingDriver"));
    filled(out, "Cgroup Driver", info.text("CgroupDriver"));
    filled(out, "Cgroup Version", info.text("CgroupVersion"));
}

fn words(list: &[Value]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn plugins(out: &mut String, info: &Value) {
    let plugins = info.at(&["Plugins"]);
    out.push_str(" Plugins:\n");
    line(out, " Volume", words(plugins.list("Volume")));
    line(out, " Network", words(plugins.list("Network")));
    if !plugins.list("Authorization").is_empty() {
        line(out, " Authorization", words(plugins.list("Authorization")));
    }
    line(out, " Log", words(plugins.list("Log")));
    let directories = info.list("CDISpecDirs");
    if !directories.is_empty() {
        out.push_str(" CDI spec directories:\n");
        for directory in directories {
            let _ = writeln!(out, "  {directory}");
        }
    }
    line(out, "Swarm", info.at(&["Swarm"]).text("LocalNodeState"));
}

fn runtimes(out: &mut String, info: &Value) {
    let names: Vec<&str> = info.at(&["Runtimes"]).entries().iter().map(|(name, _)| name.as_str()).collect();
    if !names.is_empty() {
        line(out, "Runtimes", names.join(" "));
        line(out, "Default Runtime", info.text("DefaultRuntime"));
    }
    if info.text("OSType") != "linux" {
        return;
    }
    line(out, "Init Binary", info.text("InitBinary"));
    for (name, field) in [("containerd", "ContainerdCommit"), ("runc", "RuncCommit"), ("init", "InitCommit")] {
        let (id, expected) = (info.at(&[field]).text("ID"), info.at(&[field]).text("Expected"));
        let other = if id == expected || expected.is_empty() && id.is_empty() {
            String::new()
        } else {
            format!(" (expected: {expected})")
        };
        let _ = writeln!(out, " {name} version: {id}{other}");
    }
    let options = info.list("SecurityOptions");
    if !options.is_empty() {
        out.push_str(" Security Options:\n");
    }
    for option in options {
        let option = option.to_string();
        for pair in option.split(',') {
            match pair.split_once('=') {
                Some(("name", name)) => drop(writeln!(out, "  {name}")),
                Some(("profile", profile)) => drop(writeln!(out, "   Profile: {profile}")),
                Some(_) => {}
                None => drop(writeln!(out, "  {pair}")),
            }
        }
    }
}

fn machine(out: &mut String, info: &Value) {
    filled(out, "Kernel Version", info.text("KernelVersion"));
    filled(out, "Operating System", info.text("OperatingSystem"));
    filled(out, "OSType", info.text("OSType"));
    filled(out, "Architecture", info.text("Architecture"));
    line(out, "CPUs", info.int("NCPU"));
    line(out, "Total Memory", units::binary_size(u64::try_from(info.int("MemTotal")).unwrap_or(0)));
    filled(out, "Name", info.text("Name"));
    filled(out, "ID", info.text("ID"));
    line(out, "Docker Root Dir", info.text("DockerRootDir"));
    line(out, "Debug Mode", info.is("Debug"));
    if info.is("Debug") {
        line(out, " File Descriptors", info.int("NFd"));
        line(out, " Goroutines", info.int("NGoroutines"));
        line(out, " System Time", info.text("SystemTime"));
        line(out, " EventsListeners", info.int("NEventsListener"));
    }
    filled(out, "HTTP Proxy", info.text("HttpProxy"));
    filled(out, "HTTPS Proxy", info.text("HttpsProxy"));
    filled(out, "No Proxy", info.text("NoProxy"));
    if !info.list("Labels").is_empty() {
        out.push_str(" Labels:\n");
        for label in info.list("Labels") {
            let _ = writeln!(out, "  {label}");
        }
    }
    line(out, "Experimental", info.is("ExperimentalBuild"));
}

fn registries(out: &mut String, info: &Value) {
    let config = info.at(&["RegistryConfig"]);
    let named = config.at(&["IndexConfigs"]).entries();
    let ranges = config.list("InsecureRegistryCIDRs");
    if !named.is_empty() || !ranges.is_empty() {
        out.push_str(" Insecure Registries:\n");
        for (_, one) in named.iter().filter(|(_, one)| !one.is("Secure")) {
            let _ = writeln!(out, "  {}", one.text("Name"));
        }
        for range in ranges {
            let _ = writeln!(out, "  {range}");
        }
    }
    let mirrors = config.list("Mirrors");
    if !mirrors.is_empty() {
        out.push_str(" Registry Mirrors:\n");
        for mirror in mirrors {
            let _ = writeln!(out, "  {mirror}");
        }
    }
    line(out, "Live Restore Enabled", info.is("LiveRestoreEnabled"));
    filled(out, "Product License", info.text("ProductLicense"));
    let pools = info.list("DefaultAddressPools");
    if !pools.is_empty() {
        out.push_str(" Default Address Pools:\n");
        for pool in pools {
            let _ = writeln!(out, "   Base: {}, Size: {}", pool.text("Base"), pool.int("Size"));
        }
    }
}

/// What `version --format` works on: this program, and the daemon if it answers.
pub fn versions(client: &Client, server: Option<Value>) -> Value {
    let text = |text: &str| Value::Text(text.to_owned());
    let own = Value::row([
        ("Version", text(&client.version)),
        ("ApiVersion", text(&client.api)),
        ("APIVersion", text(&client.api)),
        ("DefaultAPIVersion", text(&client.newest)),
        ("Os", text(&client.os)),
        ("Arch", text(&client.arch)),
        ("Context", text(&client.host)),
    ]);
    let mut all = vec![("Client", own)];
    all.push(("Server", server.unwrap_or_default()));
    Value::row(all)
}

/// The text of `version`.
pub fn version(client: &Client, server: Option<&Value>) -> String {
    let downgraded =
        if client.api == client.newest { String::new() } else { format!(" (downgraded from {})", client.newest) };
    let mut rows = vec![
        "Client: Gantry".to_owned(),
        format!(" Version:\t{}", client.version),
        format!(" API version:\t{}{downgraded}", client.api),
        format!(" OS/Arch:\t{}/{}", client.os, client.arch),
        format!(" Context:\t{}", client.host),
    ];
    if let Some(server) = server {
        rows.push(String::new());
        let platform = server.at(&["Platform"]).text("Name");
        rows.push(if platform.is_empty() { "Server:".to_owned() } else { format!("Server: {platform}") });
        for component in server.list("Components") {
            rows.extend(component_lines(component));
        }
    }
    wide(&rows)
}

fn component_lines(component: &Value) -> Vec<String> {
    let details = component.at(&["Details"]);
    let mut rows = vec![format!(" {}:", component.text("Name")), format!("  Version:\t{}", component.text("Version"))];
    if component.text("Name") == "Engine" {
        let detail = |name: &str| details.text(name).to_owned();
        rows.push(format!("  API version:\t{} (minimum version {})", detail("ApiVersion"), detail("MinAPIVersion")));
        for (title, name) in [("Go version", "GoVersion"), ("Git commit", "GitCommit"), ("Built", "BuildTime")] {
            if !details.text(name).is_empty() {
                rows.push(format!("  {title}:\t{}", detail(name)));
            }
        }
        rows.push(format!("  OS/Arch:\t{}/{}", detail("Os"), detail("Arch")));
        rows.push(format!("  Experimental:\t{}", detail("Experimental")));
    } else {
        let sorted = Value::sorted(details.entries());
        rows.extend(sorted.into_iter().map(|(name, value)| format!("  {name}:\t{value}")));
    }
    rows
}

/// Names in a column as wide as Docker's.
fn wide(rows: &[String]) -> String {
    rows.iter().fold(String::new(), |out, row| {
        let text = match row.split_once('\t') {
            Some((name, value)) => format!("{name:<20}{}", table::printable(value)),
            None => table::printable(row),
        };
        out + text.trim_end() + "\n"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        let text = |text: &str| text.to_owned();
        Client {
            version: text("0.1.0"),
            api: text("1.45"),
            newest: text("1.51"),
            os: text("linux"),
            arch: text("amd64"),
            host: text("unix:///run/x.sock"),
            debug: false,
        }
    }

    #[test]
    fn informations() {
        let document: Value = serde_json::from_str(
            r#"{"Containers":3,"ContainersRunning":1,"ContainersPaused":0,"ContainersStopped":2,"Images":5,"ServerVersion":"1",
            "Driver":"overlay2","DriverStatus":[["Backing Filesystem","ext4"]],"LoggingDriver":"local","CgroupDriver":"cgroupfs",
            "CgroupVersion":"2","Plugins":{"Volume":["local"],"Network":["bridge","host"],"Log":["local","none"],"Authorization":null},
            "Swarm":{"LocalNodeState":"inactive"},"Runtimes":{"runc":{}},"DefaultRuntime":"runc","OSType":"linux","InitBinary":"init",
            "ContainerdCommit":{"ID":"a","Expected":"b"},"RuncCommit":{},"InitCommit":{"ID":"","Expected":""},
            "SecurityOptions":["name=seccomp,profile=builtin","name=cgroupns"],"KernelVersion":"6.12","NCPU":2,"MemTotal":25276272640,
            "Name":"me","ID":"x","DockerRootDir":"/var/lib/gantry","Labels":[],"RegistryConfig":{"IndexConfigs":
            {"docker.io":{"Name":"docker.io","Secure":true}},"InsecureRegistryCIDRs":["127.0.0.0/8"],"Mirrors":[]},"Warnings":["WARNING: x"]}"#,
        )
        .unwrap();
        let (text, warnings) = info(&client(), &document);
        assert_eq!(warnings, ["WARNING: x"]);
        insta::assert_snapshot!(text.replace(": \n", ":.\n"));
    }

    #[test]
    fn version_texts() {
        let server: Value = serde_json::from_str(
            r#"{"Platform":{"Name":""},"Components":[{"Name":"Engine","Version":"26.1.5","Details":{"ApiVersion":"1.45",
            "MinAPIVersion":"1.24","Os":"linux","Arch":"amd64","Experimental":"false","GoVersion":"go1"}},
            {"Name":"runc","Version":"1.1","Details":{"GitCommit":""}}]}"#,
        )
        .unwrap();
        insta::assert_snapshot!(version(&client(), Some(&server)), @r"
        Client: Gantry
         Version:           0.1.0
         API version:       1.45 (downgraded from 1.51)
         OS/Arch:           linux/amd64
         Context:           unix:///run/x.sock

        Server:
         Engine:
          Version:          26.1.5
          API version:      1.45 (minimum version 1.24)
          Go version:       go1
          OS/Arch:          linux/amd64
          Experimental:     false
         runc:
          Version:          1.1
          GitCommit:
        ");
        assert!(version(&client(), None).ends_with("unix:///run/x.sock\n"));
    }
}
