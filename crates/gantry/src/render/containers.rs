//! The list of containers, as `docker ps` has it.

use std::collections::BTreeSet;

use gantry_model::reference::Reference;

use crate::render::listing::Listing;
use crate::render::{id, labels, table, units};
use crate::template::Value;

/// The longest command that is shown, unless whole ones are asked for.
const COMMAND: usize = 20;
/// The longest name of a mount.
const MOUNT: usize = 15;

const TITLES: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
];

/// The listing.
pub const LISTING: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    titles: TITLES,
};

/// The listing with sizes.
pub const WITH_SIZES: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
    titles: TITLES,
};

/// The listing of `system df --verbose`.
pub const OF_DISK: Listing = Listing {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    titles: TITLES,
};

/// The rows of what `/containers/json` gives.
pub fn rows(found: &[Value], whole: bool, now: i64) -> Vec<Value> {
    found.iter().map(|one| row(one, whole, now)).collect()
}

fn row(one: &Value, whole: bool, now: i64) -> Value {
    let command = one.text("Command");
    let command = if whole { command.to_owned() } else { table::cut(command, COMMAND) };
    let created = Some(one.int("Created"));
    let networks = one.at(&["NetworkSettings", "Networks"]);
    let networks: Vec<&str> = networks.entries().iter().map(|(name, _)| name.as_str()).collect();
    let fields = [
        ("Command", serde_json::to_string(&command).unwrap_or_default()),
        ("CreatedAt", units::date(created)),
        ("ID", id(one.text("Id"), whole)),
        ("Image", image(one, whole)),
        ("Labels", labels(one.get("Labels"))),
        ("LocalVolumes", volumes(one).to_string()),
        ("Mounts", mounts(one, whole)),
        ("Names", names(one, whole)),
        ("Networks", networks.join(",")),
        ("Ports", ports(one.list("Ports"))),
        ("RunningFor", units::ago(created, now)),
        ("Size", size(one)),
        ("State", one.text("State").to_owned()),
        ("Status", one.text("Status").to_owned()),
    ];
    let mut row: Vec<(&str, Value)> = fields.map(|(name, text)| (name, Value::Text(text))).into();
    row.push(("Label", one.get("Labels").cloned().unwrap_or_default()));
    Value::row(row)
}

/// Names without the slash that the API puts before them; those by which others know it only if all is asked for.
fn names(one: &Value, whole: bool) -> String {
    let text = |name: &Value| name.to_string().trim_start_matches('/').to_owned();
    let all: Vec<String> = one.list("Names").iter().map(text).collect();
    match all.iter().find(|name| !name.contains('/')) {
        Some(own) if !whole => own.clone(),
        _ => all.join(","),
    }
}

/// The image's name without its digest, or the beginning of its id.
fn image(one: &Value, whole: bool) -> String {
    let name = one.text("Image");
    if name.is_empty() {
        return "<no image>".to_owned();
    }
    if whole {
        return name.to_owned();
    }
    let short = id(one.text("ImageID"), false);
    if short == id(name, false) {
        return short;
    }
    if !name.contains('@') {
        return name.to_owned();
    }
    let tagged = name.split('@').next().unwrap_or(name);
    match tagged.parse::<Reference>() {
        // Without a tag, the name alone: not the usual tag.
        Ok(reference) if !tagged.rsplit('/').next().is_some_and(|last| last.contains(':')) => {
            reference.familiar().trim_end_matches(":latest").to_owned()
        }
        Ok(reference) => reference.familiar(),
        Err(_) => name.to_owned(),
    }
}

fn mounts(one: &Value, whole: bool) -> String {
    let name = |mount: &Value| {
        let name = Some(mount.text("Name")).filter(|name| !name.is_empty()).unwrap_or(mount.text("Source"));
        if whole { name.to_owned() } else { table::cut(name, MOUNT) }
    };
    one.list("Mounts").iter().map(name).collect::<Vec<_>>().join(",")
}

fn volumes(one: &Value) -> usize {
    one.list("Mounts").iter().filter(|mount| mount.text("Driver") == "local").count()
}

fn size(one: &Value) -> String {
    let bytes = |name: &str| units::size(u64::try_from(one.int(name)).unwrap_or(0));
    let written = bytes("SizeRw");
    if one.int("SizeRootFs") > 0 { format!("{written} (virtual {})", bytes("SizeRootFs")) } else { written }
}

/// Ports that follow each other are one range; published ones that differ from the container's stand last.
pub fn ports(all: &[Value]) -> String {
    let mut all: Vec<&Value> = all.iter().collect();
    all.sort_by_key(|port| {
        (port.int("PrivatePort"), port.text("IP").to_owned(), port.int("PublicPort"), port.text("Type").to_owned())
    });
    let mut groups: Vec<(String, String, i64, i64)> = Vec::new();
    let (mut out, mut mapped) = (Vec::new(), Vec::new());
    for port in all {
        let (ip, kind, own, public) =
            (port.text("IP"), port.text("Type"), port.int("PrivatePort"), port.int("PublicPort"));
        let ip = bracketed(ip);
        let ip = ip.as_str();
        if !ip.is_empty() && public != own {
            mapped.push(format!("{ip}:{public}->{own}/{kind}"));
            continue;
        }
        match groups.iter_mut().find(|(group_ip, group_kind, ..)| group_ip == ip && group_kind == kind) {
            None => groups.push((ip.to_owned(), kind.to_owned(), own, own)),
            Some((.., last)) if own == *last + 1 => *last = own,
            Some((_, _, first, last)) => {
                out.push(group(ip, kind, *first, *last));
                (*first, *last) = (own, own);
            }
        }
    }
    out.extend(groups.iter().map(|(ip, kind, first, last)| group(ip, kind, *first, *last)));
    out.extend(mapped);
    out.join(", ")
}

/// An address before a port: one of IPv6 stands in brackets.
fn bracketed(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

fn group(ip: &str, kind: &str, first: i64, last: i64) -> String {
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    if ip.is_empty() { format!("{range}/{kind}") } else { format!("{ip}:{range}->{range}/{kind}") }
}

/// What programs get with `--json` beyond what the API has: the health, apart from the status that tells it.
pub fn with_health(found: Vec<Value>) -> Vec<Value> {
    found
        .into_iter()
        .map(|one| {
            let Value::Map(mut entries) = one else { return one };
            let status = entries.iter().find(|(name, _)| name == "Status").map(|(_, value)| value.to_string());
            let health = health(&status.unwrap_or_default()).map_or(Value::Null, |text| Value::Text(text.to_owned()));
            if entries.iter().all(|(name, _)| name != "Health") {
                entries.push(("Health".to_owned(), health));
            }
            Value::Map(entries)
        })
        .collect()
}

/// What a status says of the health; none without a health check.
fn health(status: &str) -> Option<&'static str> {
    let inner = status.rsplit_once('(')?.1.strip_suffix(')')?;
    ["healthy", "unhealthy", "starting"]
        .into_iter()
        .find(|known| inner == *known || inner == format!("health: {known}"))
}

/// The published ports of `port`: all, or those of one.
pub fn published(map: &Value, one: Option<&str>) -> Vec<String> {
    let mut seen: BTreeSet<(u32, String, String)> = BTreeSet::new();
    for (from, bindings) in map.entries() {
        if one.is_some_and(|one| one != from) {
            continue;
        }
        let number: u32 = from.split('/').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        for binding in bindings.items() {
            let ip = binding.text("HostIp");
            let to = format!("{}:{}", bracketed(ip), binding.text("HostPort"));
            let line = if one.is_some() { to } else { format!("{from} -> {to}") };
            seen.insert((number, from.clone(), line));
        }
    }
    seen.into_iter().map(|(_, _, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn port_lists() {
        let check = |text: &str, expect: &str| {
            // IP, public, private: a word each.
            let all: Vec<Value> = text
                .split_whitespace()
                .map(|word| {
                    let [ip, public, own] = word.splitn(3, '>').collect::<Vec<_>>()[..] else { panic!("{word}") };
                    let (own, kind) = own.split_once('/').unwrap_or((own, "tcp"));
                    let public = if public.is_empty() { "0" } else { public };
                    value(&format!(r#"{{"IP":"{ip}","PublicPort":{public},"PrivatePort":{own},"Type":"{kind}"}}"#))
                })
                .collect();
            assert_eq!(ports(&all), expect, "{text}");
        };
        check("", "");
        check(">>80", "80/tcp");
        check("0.0.0.0>80>80 ::>80>80", "0.0.0.0:80->80/tcp, [::]:80->80/tcp");
        check("0.0.0.0>8080>80 ::>8080>80", "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
        check("0.0.0.0>8080>80 >>443", "443/tcp, 0.0.0.0:8080->80/tcp");
        check(">>81 >>80 >>82 >>90", "80-82/tcp, 90/tcp");
        check("0.0.0.0>80>80 0.0.0.0>81>81 >>53/udp", "53/udp, 0.0.0.0:80-81->80-81/tcp");
    }

    #[test]
    fn rows_of_containers() {
        let one = value(
            r#"{"Id":"0123456789abcdef","Names":["/other/alias","/web"],"Image":"nginx:1@sha256:00","ImageID":"sha256:ff",
            "Command":"nginx -g 'daemon off;' -c \"x\"","Created":1799990000,"Ports":[],"SizeRw":5,"SizeRootFs":1200,
            "Labels":{"a":"b"},"State":"running","Status":"Up 2 hours (healthy)","NetworkSettings":{"Networks":{"bridge":{}}},
            "Mounts":[{"Type":"volume","Name":"a-very-long-volume-name","Driver":"local"},{"Source":"/src"}]}"#,
        );
        let check = |template: &str, whole: bool, expect: &str| {
            let form = LISTING.form(Some(template)).unwrap();
            let text = LISTING.render(&form, &rows(std::slice::from_ref(&one), whole, 1_800_000_000), None).unwrap();
            assert_eq!(text.trim_end(), expect, "{template}");
        };
        check("{{.ID}} {{.Names}} {{.Image}}", false, "0123456789ab web nginx:1");
        check("{{.ID}} {{.Names}} {{.Image}}", true, "0123456789abcdef other/alias,web nginx:1@sha256:00");
        check("{{.Command}}", false, "\"nginx -g 'daemon of…\"");
        check("{{.Command}}", true, r#""nginx -g 'daemon off;' -c \"x\"""#);
        check("{{.RunningFor}}|{{.CreatedAt}}", false, "3 hours ago|2027-01-15 05:13:20 +0000 UTC");
        check(
            "{{.Size}} {{.Mounts}} {{.LocalVolumes}} {{.Networks}}",
            false,
            "5B (virtual 1.2kB) a-very-long-vo…,/src 1 bridge",
        );
        check("{{.Labels}} {{.Label \"a\"}} {{.Label \"none\"}}.", false, "a=b b .");
        check("{{.State}} {{.Status}}", false, "running Up 2 hours (healthy)");
        assert!(
            matches!(with_health(vec![one.clone()])[0].get("Health"), Some(Value::Text(text)) if text == "healthy")
        );
    }

    #[test]
    fn healths() {
        assert_eq!(health("Up 5 seconds (health: starting)"), Some("starting"));
        assert_eq!(health("Up 5 seconds (unhealthy)"), Some("unhealthy"));
        assert_eq!(health("Exited (0) 5 seconds ago"), None);
        assert_eq!(health("Up 5 seconds"), None);
    }

    #[test]
    fn published_ports() {
        let map = value(
            r#"{"443/tcp":null,"9000/tcp":[{"HostIp":"::","HostPort":"9"}],"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}]}"#,
        );
        assert_eq!(published(&map, None), ["80/tcp -> 0.0.0.0:8080", "80/tcp -> [::]:8080", "9000/tcp -> [::]:9"]);
        assert_eq!(published(&map, Some("80/tcp")), ["0.0.0.0:8080", "[::]:8080"]);
        assert_eq!(published(&map, Some("443/tcp")), [""; 0]);
    }
}
