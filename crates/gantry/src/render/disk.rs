//! What is used of the disk, as `docker system df` has it.

use crate::render::containers::{OF_DISK, rows as container_rows};
use crate::render::listing::{Form, Listing};
use crate::render::networks::{VOLUMES_OF_DISK, volumes};
use crate::render::{id, units};
use crate::template::{TemplateError, Value};

/// The listing.
pub const LISTING: Listing = Listing {
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
    titles: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
};

const IMAGES: Listing = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    titles: &[
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ],
};

const CACHE: Listing = Listing {
    table: "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
    titles: &[
        ("ID", "CACHE ID"),
        ("CacheType", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("CreatedSince", "CREATED"),
        ("LastUsedSince", "LAST USED"),
        ("UsageCount", "USAGE"),
        ("Shared", "SHARED"),
    ],
};

fn bytes(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// A row for each kind of thing.
pub fn rows(found: &Value) -> Vec<Value> {
    vec![image_row(found), container_row(found), volume_row(found), cache_row(found)]
}

fn row(kind: &str, total: usize, active: usize, size: i64, reclaimable: i64) -> Value {
    let percent = if size > 0 { format!(" ({}%)", reclaimable.saturating_mul(100) / size) } else { String::new() };
    let fields = [
        ("Active", active.to_string()),
        ("Reclaimable", format!("{}{percent}", units::size_of_four(bytes(reclaimable)))),
        ("Size", units::size_of_four(bytes(size))),
        ("TotalCount", total.to_string()),
        ("Type", kind.to_owned()),
    ];
    Value::row(fields.map(|(name, text)| (name, Value::Text(text))))
}

fn image_row(found: &Value) -> Value {
    let images = found.list("Images");
    let active = images.iter().filter(|image| image.int("Containers") > 0).count();
    let known =
        |image: &&Value| image.int("Containers") != 0 && image.int("Size") != -1 && image.int("SharedSize") != -1;
    let used: i64 = images.iter().filter(known).map(|image| image.int("Size") - image.int("SharedSize")).sum();
    let total = found.int("LayersSize");
    row("Images", images.len(), active, total, total - used)
}

fn container_row(found: &Value) -> Value {
    let all = found.list("Containers");
    let runs = |one: &Value| ["running", "paused", "restarting"].iter().any(|state| one.text("State").contains(state));
    let total = all.iter().map(|one| one.int("SizeRw")).sum();
    let free = all.iter().filter(|one| !runs(one)).map(|one| one.int("SizeRw")).sum();
    row("Containers", all.len(), all.iter().filter(|one| runs(one)).count(), total, free)
}

fn volume_row(found: &Value) -> Value {
    let all = found.list("Volumes");
    let usage = |one: &Value, name: &str| one.at(&["UsageData"]).int(name);
    let sized = || all.iter().filter(|one| usage(one, "Size") != -1);
    let total = sized().map(|one| usage(one, "Size")).sum();
    let free = sized().filter(|one| usage(one, "RefCount") == 0).map(|one| usage(one, "Size")).sum();
    row("Local Volumes", all.len(), all.iter().filter(|one| usage(one, "RefCount") > 0).count(), total, free)
}

fn cache_row(found: &Value) -> Value {
    let all = found.list("BuildCache");
    let own = |one: &&Value| !one.is("Shared");
    let total: i64 = all.iter().filter(own).map(|one| one.int("Size")).sum();
    let used: i64 = all.iter().filter(own).filter(|one| one.is("InUse")).map(|one| one.int("Size")).sum();
    let free = units::size_of_four(bytes(total - used));
    let fields = [
        ("Active", all.iter().filter(|one| one.is("InUse")).count().to_string()),
        ("Reclaimable", free),
        ("Size", units::size_of_four(bytes(total))),
        ("TotalCount", all.len().to_string()),
        ("Type", "Build Cache".to_owned()),
    ];
    Value::row(fields.map(|(name, text)| (name, Value::Text(text))))
}

/// Each thing; with a template, all at once.
pub fn details(found: &Value, asked: Option<&str>, now: i64, width: Option<usize>) -> Result<String, TemplateError> {
    let containers: Vec<Value> = found.list("Containers").iter().map(without_root_size).collect();
    let parts = [
        ("Images", IMAGES, images(found.list("Images"), now)),
        ("Containers", OF_DISK, container_rows(&containers, false, now)),
        ("Volumes", VOLUMES_OF_DISK, volumes(found.list("Volumes"))),
        ("BuildCache", CACHE, cache(found.list("BuildCache"), now)),
    ];
    let form = LISTING.form(asked)?;
    if let Form::Lines(template) = form {
        let all = Value::row(parts.map(|(name, _, rows)| (name, Value::List(rows))));
        return template.render(&all);
    }
    if matches!(form, Form::Json) {
        let all = Value::row(parts.map(|(name, _, rows)| (name, Value::List(rows))));
        return Ok(serde_json::to_string(&all).unwrap_or_default() + "\n");
    }
    let cached: i64 = found.list("BuildCache").iter().filter(|one| !one.is("Shared")).map(|one| one.int("Size")).sum();
    let cached = format!("\nBuild cache usage: {}\n\n", units::size_of_four(bytes(cached)));
    let mut out = String::new();
    for (name, listing, rows) in parts {
        let title = match name {
            "Images" => "Images space usage:\n\n",
            "Containers" => "\nContainers space usage:\n\n",
            "Volumes" => "\nLocal Volumes space usage:\n\n",
            _ => &cached,
        };
        out.push_str(title);
        out.push_str(&listing.render(&listing.form(None)?, &rows, width)?);
    }
    Ok(out)
}

/// A container without the size of its image, which is not its own.
fn without_root_size(one: &Value) -> Value {
    let entries = one.entries().iter().filter(|(name, _)| name != "SizeRootFs").cloned();
    Value::Map(entries.collect())
}

fn images(all: &[Value], now: i64) -> Vec<Value> {
    let size = |n: i64| if n < 0 { "N/A".to_owned() } else { units::size_of_four(bytes(n)) };
    let row = |image: &Value| {
        let name = image.list("RepoTags").first().map(ToString::to_string);
        let (repository, tag) = match name.as_deref().and_then(|name| name.rsplit_once(':')) {
            Some((repository, tag)) if repository != "<none>" => (repository.to_owned(), tag.to_owned()),
            _ => ("<none>".to_owned(), "<none>".to_owned()),
        };
        let (whole, shared) = (image.int("Size"), image.int("SharedSize"));
        let unique = if shared < 0 { -1 } else { whole - shared };
        let containers = image.int("Containers");
        let fields = [
            ("Containers", if containers < 0 { "N/A".to_owned() } else { containers.to_string() }),
            ("CreatedSince", units::ago(Some(image.int("Created")).filter(|n| *n > 0), now)),
            ("ID", id(image.text("Id"), false)),
            ("Repository", repository),
            ("SharedSize", size(shared)),
            ("Size", units::size(bytes(whole))),
            ("Tag", tag),
            ("UniqueSize", size(unique)),
        ];
        Value::row(fields.map(|(name, text)| (name, Value::Text(text))))
    };
    all.iter().map(row).collect()
}

fn cache(all: &[Value], now: i64) -> Vec<Value> {
    let ago = |text: &str| {
        let then = crate::times::nanoseconds(text).map(|n| n.div_euclid(1_000_000_000) as i64);
        then.map_or_else(String::new, |then| units::ago(Some(then), now))
    };
    let row = |one: &Value| {
        let fields = [
            ("CacheType", one.text("Type").to_owned()),
            ("CreatedSince", ago(one.text("CreatedAt"))),
            ("Description", one.text("Description").to_owned()),
            ("ID", one.text("ID").chars().take(12).collect::<String>() + if one.is("InUse") { "*" } else { "" }),
            ("InUse", one.is("InUse").to_string()),
            ("LastUsedSince", ago(one.text("LastUsedAt"))),
            ("Shared", one.is("Shared").to_string()),
            ("Size", units::size(bytes(one.int("Size")))),
            ("UsageCount", one.int("UsageCount").to_string()),
        ];
        Value::row(fields.map(|(name, text)| (name, Value::Text(text))))
    };
    all.iter().map(row).collect()
}

/// The lines of a prune of images.
pub fn removed_images(done: &Value) -> String {
    let gone = done.list("ImagesDeleted");
    if gone.is_empty() {
        return String::new();
    }
    let lines = gone.iter().map(|one| match one.text("Untagged") {
        "" => format!("deleted: {}\n", one.text("Deleted")),
        name => format!("untagged: {name}\n"),
    });
    format!("Deleted Images:\n{}\n", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let found: Value = serde_json::from_str(
            r#"{"LayersSize":2000000,"Images":[{"Id":"sha256:0123456789abcdef","RepoTags":["a:1"],"Size":1500000,"SharedSize":500000,
            "Containers":1,"Created":1799990000},{"Id":"sha256:1123456789abcdef","RepoTags":null,"Size":1000000,"SharedSize":0,"Containers":0}],
            "Containers":[{"Id":"c123456789abcdef","Names":["/x"],"Image":"a:1","Command":"sh","SizeRw":100,"SizeRootFs":5,"State":"running",
            "Created":1799990000,"Status":"Up"},{"Id":"d","Names":["/y"],"SizeRw":300,"State":"exited"}],
            "Volumes":[{"Name":"v","UsageData":{"RefCount":0,"Size":1234567}}],"BuildCache":null}"#,
        )
        .unwrap();
        insta::assert_snapshot!(LISTING.render(&LISTING.form(None).unwrap(), &rows(&found), None).unwrap(), @r"
        TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE
        Images          2         1         2MB       1MB (50%)
        Containers      2         1         400B      300B (75%)
        Local Volumes   1         0         1.235MB   1.235MB (100%)
        Build Cache     0         0         0B        0B
        ");
        insta::assert_snapshot!(details(&found, None, 1_800_000_000, None).unwrap());
        assert_eq!(
            details(&found, Some("{{range .Volumes}}{{.Name}} {{.Size}}{{end}}"), 0, None).unwrap(),
            "v 1.235MB"
        );
    }

    #[test]
    fn what_went() {
        let done = serde_json::from_str(r#"{"ImagesDeleted":[{"Untagged":"a:1"},{"Deleted":"sha256:1"}]}"#).unwrap();
        assert_eq!(removed_images(&done), "Deleted Images:\nuntagged: a:1\ndeleted: sha256:1\n\n");
        assert_eq!(removed_images(&Value::Null), "");
    }
}
