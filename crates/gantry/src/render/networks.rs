//! The lists of networks and volumes, as Docker has them.

use crate::render::listing::Listing;
use crate::render::{id, labels, units};
use crate::template::Value;

/// The listing of networks.
pub const NETWORKS: Listing = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    titles: &[
        ("ID", "NETWORK ID"),
        ("Name", "NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("CreatedAt", "CREATED AT"),
    ],
};

const VOLUME_TITLES: &[(&str, &str)] = &[
    ("Name", "VOLUME NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Group", "GROUP"),
    ("Availability", "AVAILABILITY"),
    ("Status", "STATUS"),
];

/// The listing of volumes.
pub const VOLUMES: Listing = Listing { table: "{{.Driver}}\t{{.Name}}", titles: VOLUME_TITLES };

/// The listing of `system df --verbose`.
pub const VOLUMES_OF_DISK: Listing = Listing { table: "{{.Name}}\t{{.Links}}\t{{.Size}}", titles: VOLUME_TITLES };

fn texts<const N: usize>(fields: [(&'static str, String); N], one: &Value) -> Value {
    let mut row: Vec<(&str, Value)> = fields.map(|(name, text)| (name, Value::Text(text))).into();
    row.push(("Label", one.get("Labels").cloned().unwrap_or_default()));
    Value::row(row)
}

/// The rows of what `/networks` gives.
pub fn networks(found: &[Value], whole: bool) -> Vec<Value> {
    let row = |one: &Value| {
        let fields = [
            ("CreatedAt", date(one.text("Created"))),
            ("Driver", one.text("Driver").to_owned()),
            ("ID", id(one.text("Id"), whole)),
            ("IPv6", one.is("EnableIPv6").to_string()),
            ("Internal", one.is("Internal").to_string()),
            ("Labels", labels(one.get("Labels"))),
            ("Name", one.text("Name").to_owned()),
            ("Scope", one.text("Scope").to_owned()),
        ];
        texts(fields, one)
    };
    found.iter().map(row).collect()
}

/// `2026-11-26T20:54:17.123456789Z` as Go prints a time.
fn date(text: &str) -> String {
    // What was never, by Go, lies before the times that are counted here.
    if text == "0001-01-01T00:00:00Z" {
        return "0001-01-01 00:00:00 +0000 UTC".to_owned();
    }
    let Some(nanoseconds) = crate::times::nanoseconds(text) else { return text.to_owned() };
    let seconds = units::date(Some(nanoseconds.div_euclid(1_000_000_000) as i64));
    let part = format!("{:09}", nanoseconds.rem_euclid(1_000_000_000));
    match part.trim_end_matches('0') {
        "" => seconds,
        part => seconds.replacen(" +0000", &format!(".{part} +0000"), 1),
    }
}

/// The rows of volumes.
pub fn volumes(found: &[Value]) -> Vec<Value> {
    let row = |one: &Value| {
        let usage = one.get("UsageData").filter(|usage| **usage != Value::Null);
        let none = || "N/A".to_owned();
        let size =
            |usage: &Value| u64::try_from(usage.int("Size")).map_or_else(|_| "-1B".to_owned(), units::size_of_four);
        let fields = [
            ("Availability", none()),
            ("Driver", one.text("Driver").to_owned()),
            ("Group", none()),
            ("Labels", labels(one.get("Labels"))),
            ("Links", usage.map_or_else(none, |usage| usage.int("RefCount").to_string())),
            ("Mountpoint", one.text("Mountpoint").to_owned()),
            ("Name", one.text("Name").to_owned()),
            ("Scope", one.text("Scope").to_owned()),
            ("Size", usage.map_or_else(none, size)),
            ("Status", none()),
        ];
        texts(fields, one)
    };
    found.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let network = value(
            r#"{"Id":"0123456789abcdef","Name":"bridge","Driver":"bridge","Scope":"local","EnableIPv6":false,"Internal":true,
            "Labels":{"b":"2","a":"1"},"Created":"2026-11-26T20:54:17.120000000Z"}"#,
        );
        let check = |listing: Listing, rows: Vec<Value>, template: Option<&str>, expect: &str| {
            assert_eq!(listing.render(&listing.form(template).unwrap(), &rows, None).unwrap(), expect);
        };
        let table = "NETWORK ID     NAME      DRIVER    SCOPE\n0123456789ab   bridge    bridge    local\n";
        check(NETWORKS, networks(std::slice::from_ref(&network), false), None, table);
        let all = "{{.ID}} {{.CreatedAt}} {{.IPv6}} {{.Internal}} {{.Labels}} {{.Label \"b\"}}";
        let expect = "0123456789abcdef 2026-11-26 20:54:17.12 +0000 UTC false true a=1,b=2 2\n";
        check(NETWORKS, networks(&[network], true), Some(all), expect);
        let volume = value(r#"{"Name":"data","Driver":"local","Mountpoint":"/m","Scope":"local","Labels":null}"#);
        check(VOLUMES, volumes(std::slice::from_ref(&volume)), None, "DRIVER    VOLUME NAME\nlocal     data\n");
        check(VOLUMES, volumes(&[volume]), Some("{{.Size}} {{.Links}} {{.Mountpoint}}"), "N/A N/A /m\n");
        let used = value(r#"{"Name":"data","UsageData":{"RefCount":2,"Size":1500}}"#);
        check(VOLUMES, volumes(&[used]), Some("{{.Size}} {{.Links}}"), "1.5kB 2\n");
        assert_eq!(date("0001-01-01T00:00:00Z"), "0001-01-01 00:00:00 +0000 UTC");
    }
}
