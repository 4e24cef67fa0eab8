//! The history of an image, as `docker history` has it.

use gantry_images::HistoryEntry;

use crate::render::listing::Listing;
use crate::render::{id, table, units};
use crate::template::Value;

/// Longest command that is shown, unless whole ones are asked for.
const COMMAND: usize = 45;

const TITLES: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// The listing for people, or for programs.
pub const fn listing(human: bool) -> Listing {
    let table = if human {
        "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
    } else {
        "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
    };
    Listing { table, titles: TITLES }
}

/// The rows of a history.
pub fn rows(steps: &[HistoryEntry], human: bool, whole: bool, now: i64) -> Vec<Value> {
    steps.iter().map(|step| row(step, human, whole, now)).collect()
}

fn row(step: &HistoryEntry, human: bool, whole: bool, now: i64) -> Value {
    let created = Some(step.created).filter(|created| *created != 0);
    let date = units::date(created).replacen(' ', "T", 1).replace(" +0000 UTC", "Z");
    let command = step.created_by.replace('\t', " ");
    let fields = [
        ("ID", id(&step.id, whole)),
        ("CreatedSince", if human { units::ago(created, now) } else { date.clone() }),
        ("CreatedAt", date),
        ("CreatedBy", if whole { command } else { table::cut(&command, COMMAND) }),
        ("Size", if human { units::size(step.size) } else { step.size.to_string() }),
        ("Comment", step.comment.clone()),
    ];
    Value::row(fields.map(|(name, text)| (name, Value::Text(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories() {
        let step = |id: &str, by: &str, size: u64| HistoryEntry {
            id: id.to_owned(),
            created: 1_799_990_000,
            created_by: by.to_owned(),
            tags: None,
            size,
            comment: "buildkit".to_owned(),
        };
        let long = "RUN /bin/sh -c apt-get update && apt-get install -y everything\tthat there is";
        let top = format!("sha256:{}", "a".repeat(64));
        let mut steps = vec![step(&top, "CMD [\"sh\"]", 0), step("<missing>", long, 12_345_678)];
        steps[1].created = 0;
        let check = |human: bool, whole: bool| {
            let listing = listing(human);
            let form = listing.form(None).unwrap();
            listing.render(&form, &rows(&steps, human, whole, 1_800_000_000), None).unwrap()
        };
        insta::assert_snapshot!(check(true, false), @r#"
        IMAGE          CREATED       CREATED BY                                      SIZE      COMMENT
        aaaaaaaaaaaa   3 hours ago   CMD ["sh"]                                      0B        buildkit
        <missing>      N/A           RUN /bin/sh -c apt-get update && apt-get ins…   12.3MB    buildkit
        "#);
        let whole = check(false, true);
        assert!(whole.contains(&top) && whole.contains("everything that there is   12345678   buildkit"), "{whole}");
        assert!(whole.contains("2027-01-15T05:13:20Z"), "{whole}");
    }
}
