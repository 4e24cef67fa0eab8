//! The list of images: a row for each name, as `docker images` has it.

use std::collections::BTreeMap;

use gantry_images::Summary;

use crate::render::listing::Listing;
use crate::render::{id, units};
use crate::template::Value;

/// What stands where an image has no name, tag or digest.
const NONE: &str = "<none>";

const TITLES: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

/// The listing without digests.
pub const LISTING: Listing =
    Listing { table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}", titles: TITLES };

/// The listing with digests.
pub const WITH_DIGESTS: Listing =
    Listing { table: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}", titles: TITLES };

/// The listing of `system df --verbose`.
pub const WITH_SHARES: Listing = Listing {
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    titles: TITLES,
};

/// How rows are made.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// Whether each digest of a name has a row.
    pub digests: bool,
    /// Whether ids are whole.
    pub whole: bool,
    /// Seconds since 1970.
    pub now: i64,
}

impl Rows {
    /// The rows of images.
    pub fn of(self, images: &[Summary]) -> Vec<Value> {
        images.iter().flat_map(|image| self.names(image).into_iter().map(|name| self.row(image, &name))).collect()
    }

    /// Repository, tag and digest of each row of an image.
    fn names(self, image: &Summary) -> Vec<[String; 3]> {
        let mut digests: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for one in &image.repo_digests {
            if let Some((repository, digest)) = one.split_once('@') {
                digests.entry(repository).or_default().push(digest);
            }
        }
        let mut tags: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for one in &image.repo_tags {
            // The last colon begins the tag: every name here has one.
            if let Some((repository, tag)) = one.rsplit_once(':') {
                tags.entry(repository).or_default().push(tag);
            }
        }
        let mut rows = Vec::new();
        let mut push = |repository: &str, tag: &str, digests: &[&str]| {
            let shown = if self.digests && !digests.is_empty() { digests } else { &[NONE] };
            rows.extend(shown.iter().map(|digest| [repository.to_owned(), tag.to_owned(), (*digest).to_owned()]));
        };
        for (repository, tags) in tags {
            let digests = digests.remove(repository).unwrap_or_default();
            for tag in tags {
                push(repository, tag, &digests);
            }
        }
        for (repository, digests) in digests {
            push(repository, NONE, &digests);
        }
        if rows.is_empty() {
            rows.push([NONE, NONE, NONE].map(str::to_owned));
        }
        rows
    }

    fn row(self, image: &Summary, [repository, tag, digest]: &[String; 3]) -> Value {
        let created = Some(image.created).filter(|created| *created != 0);
        let count = |n: i64, text: &dyn Fn(u64) -> String| u64::try_from(n).map_or_else(|_| "N/A".to_owned(), text);
        let unique = if image.shared_size < 0 { -1 } else { image.size as i64 - image.shared_size };
        let fields = [
            ("Repository", repository.clone()),
            ("Tag", tag.clone()),
            ("Digest", digest.clone()),
            ("ID", id(&image.id.to_string(), self.whole)),
            ("CreatedSince", units::ago(created, self.now)),
            ("CreatedAt", units::date(created)),
            ("Size", units::size(image.size)),
            ("Containers", count(image.containers, &|n| n.to_string())),
            ("SharedSize", count(image.shared_size, &units::size)),
            ("UniqueSize", count(unique, &units::size)),
        ];
        Value::row(fields.map(|(name, text)| (name, Value::Text(text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn image(digit: &str, tags: &[&str], digests: &[&str], size: u64) -> Summary {
        Summary {
            id: format!("sha256:{}", digit.repeat(64)).parse().unwrap(),
            parent_id: String::new(),
            repo_tags: tags.iter().map(|&t| t.to_owned()).collect(),
            repo_digests: digests.iter().map(|&d| d.to_owned()).collect(),
            created: NOW - 3 * 7 * 86_400,
            size,
            shared_size: -1,
            labels: None,
            containers: -1,
        }
    }

    fn images() -> Vec<Summary> {
        vec![
            image("a", &["localhost:5000/web:1", "nginx:latest"], &["nginx@sha256:11", "nginx@sha256:22"], 231_000_000),
            image("b", &[], &["localhost:5000/db@sha256:33"], 1_050),
            Summary { created: 0, ..image("c", &[], &[], 0) },
        ]
    }

    fn check(listing: Listing, digests: bool, whole: bool, format: Option<&str>) -> String {
        let rows = Rows { digests, whole, now: NOW }.of(&images());
        let form = listing.form(format).unwrap();
        listing.render(&form, &rows, None).unwrap()
    }

    #[test]
    fn tables() {
        insta::assert_snapshot!(check(LISTING, false, false, None), @r"
        REPOSITORY           TAG       IMAGE ID       CREATED       SIZE
        localhost:5000/web   1         aaaaaaaaaaaa   3 weeks ago   231MB
        nginx                latest    aaaaaaaaaaaa   3 weeks ago   231MB
        localhost:5000/db    <none>    bbbbbbbbbbbb   3 weeks ago   1.05kB
        <none>               <none>    cccccccccccc   N/A           0B
        ");
        insta::assert_snapshot!(check(WITH_DIGESTS, true, false, None), @r"
        REPOSITORY           TAG       DIGEST      IMAGE ID       CREATED       SIZE
        localhost:5000/web   1         <none>      aaaaaaaaaaaa   3 weeks ago   231MB
        nginx                latest    sha256:11   aaaaaaaaaaaa   3 weeks ago   231MB
        nginx                latest    sha256:22   aaaaaaaaaaaa   3 weeks ago   231MB
        localhost:5000/db    <none>    sha256:33   bbbbbbbbbbbb   3 weeks ago   1.05kB
        <none>               <none>    <none>      cccccccccccc   N/A           0B
        ");
    }

    #[test]
    fn templates() {
        insta::assert_snapshot!(check(LISTING, false, false, Some("{{.Repository}}:{{.Tag}} {{.ID}}")), @r"
        localhost:5000/web:1 aaaaaaaaaaaa
        nginx:latest aaaaaaaaaaaa
        localhost:5000/db:<none> bbbbbbbbbbbb
        <none>:<none> cccccccccccc
        ");
        let json = check(LISTING, false, false, Some("json"));
        assert_eq!(
            json.lines().nth(2),
            Some(
                r#"{"Containers":"N/A","CreatedAt":"2026-12-25 08:00:00 +0000 UTC","CreatedSince":"3 weeks ago","Digest":"\u003cnone\u003e","ID":"bbbbbbbbbbbb","Repository":"localhost:5000/db","SharedSize":"N/A","Size":"1.05kB","Tag":"\u003cnone\u003e","UniqueSize":"N/A"}"#
            )
        );
        let whole = check(LISTING, false, true, Some("{{.ID}}"));
        assert!(whole.lines().all(|l| l.len() == 71), "{whole}");
    }
}
