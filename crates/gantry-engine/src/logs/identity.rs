//! Whose log it is: what is sent along with it, and what tags are made of. Pure.

use std::collections::BTreeMap;

use regex_lite::Regex;

use crate::error::{Error, Result};

/// Digits of a short id.
const SHORT: usize = 12;
/// The longest tag template in bytes.
const MAX_TEMPLATE: usize = 4096;

/// What is known of a container whose log is shipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// The id of its image, without the name of the hash.
    pub image_id: String,
    /// The name of its image, as it was asked for.
    pub image_name: String,
    /// What runs in it, with arguments.
    pub command: String,
    /// When it was made, as RFC 3339 has it.
    pub created: String,
    /// What the engine is called.
    pub daemon_name: String,
    /// What the machine is called.
    pub hostname: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its environment, `NAME=value`.
    pub env: Vec<String>,
}

/// Which labels and variables go along with a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    labels: Vec<String>,
    labels_regex: Option<String>,
    env: Vec<String>,
    env_regex: Option<String>,
}

impl Attributes {
    /// Reads the options that say it.
    pub(super) fn new(options: &BTreeMap<String, String>) -> Result<Self> {
        let list = |name: &str| -> Vec<String> {
            let text = options.get(name).map_or("", String::as_str);
            text.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect()
        };
        let pattern = |name: &str| match options.get(name).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => match Regex::new(text) {
                Ok(_) => Ok(Some(text.clone())),
                Err(error) => Err(Error::Invalid(format!("invalid value for {name}: {error}"))),
            },
        };
        Ok(Self {
            labels: list("labels"),
            labels_regex: pattern("labels-regex")?,
            env: list("env"),
            env_regex: pattern("env-regex")?,
        })
    }

    /// What goes along, by name.
    pub fn of(&self, identity: &Identity) -> BTreeMap<String, String> {
        let variables: BTreeMap<&str, &str> = identity.env.iter().filter_map(|one| one.split_once('=')).collect();
        let labels: BTreeMap<&str, &str> =
            identity.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut found = BTreeMap::new();
        for (all, names, pattern) in
            [(&labels, &self.labels, &self.labels_regex), (&variables, &self.env, &self.env_regex)]
        {
            let pattern = pattern.as_ref().and_then(|text| Regex::new(text).ok());
            for (name, value) in all {
                if names.iter().any(|one| one == name) || pattern.as_ref().is_some_and(|one| one.is_match(name)) {
                    found.insert((*name).to_owned(), (*value).to_owned());
                }
            }
        }
        found
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    FullId,
    Name,
    ImageId,
    ImageFullId,
    ImageName,
    DaemonName,
    Command,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

/// What a tag is made of: text, with fields of an [`Identity`] in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Reads a template: text, with fields as `{{.Name}}` in it. Of the language of templates there is no more.
    ///
    /// # Errors
    /// There is more in it.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::Invalid(format!("invalid tag {text:?}: {why}"));
        if text.len() > MAX_TEMPLATE {
            return Err(Error::Invalid(format!("the tag is longer than {MAX_TEMPLATE} bytes")));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, after) = after.split_once("}}").ok_or_else(|| invalid("'{{' has no '}}'"))?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Field(match inside.trim() {
                ".ID" => Field::Id,
                ".FullID" | ".ContainerID" => Field::FullId,
                ".Name" | ".ContainerName" => Field::Name,
                ".ImageID" => Field::ImageId,
                ".ImageFullID" | ".ContainerImageID" => Field::ImageFullId,
                ".ImageName" | ".ContainerImageName" => Field::ImageName,
                ".DaemonName" => Field::DaemonName,
                ".Command" => Field::Command,
                _ => {
                    let known = "ID, FullID, Name, ImageID, ImageFullID, ImageName, DaemonName, Command";
                    return Err(invalid(&format!("{{{{{inside}}}}} is not understood; there are the fields {known}")));
                }
            }));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The tag of a container.
    pub fn render(&self, identity: &Identity) -> String {
        let short = |text: &str| text.chars().take(SHORT).collect::<String>();
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(Field::Id) => out.push_str(&short(&identity.id)),
                Part::Field(Field::FullId) => out.push_str(&identity.id),
                Part::Field(Field::Name) => out.push_str(&identity.name),
                Part::Field(Field::ImageId) => out.push_str(&short(&identity.image_id)),
                Part::Field(Field::ImageFullId) => out.push_str(&identity.image_id),
                Part::Field(Field::ImageName) => out.push_str(&identity.image_name),
                Part::Field(Field::DaemonName) => out.push_str(&identity.daemon_name),
                Part::Field(Field::Command) => out.push_str(&identity.command),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            id: "0123456789abcdef".to_owned(),
            name: "web".to_owned(),
            image_name: "nginx:1".to_owned(),
            labels: [("a.b", "1"), ("c", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            env: vec!["PATH=/bin".to_owned(), "X=y=z".to_owned(), "EMPTY".to_owned()],
            ..Identity::default()
        }
    }

    #[test]
    fn tags() {
        let check = |text: &str, expect: &str| {
            let found = match Template::parse(text) {
                Ok(template) => template.render(&identity()),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expect, "{text}");
        };
        check("", "");
        check("plain", "plain");
        check("{{.ID}}", "0123456789ab");
        check("a/{{ .Name }}/{{.ImageName}}.{{.FullID}}!", "a/web/nginx:1.0123456789abcdef!");
        check("{{.Name", "invalid tag \"{{.Name\": '{{' has no '}}'");
        check("}} {", "}} {");
        let words = "is not understood; there are the fields ID, FullID, Name, ImageID, ImageFullID, ImageName, \
                     DaemonName, Command";
        check("{{if .ID}}", &format!("invalid tag \"{{{{if .ID}}}}\": {{{{if .ID}}}} {words}"));
    }

    #[test]
    fn attributes() {
        let check = |options: &[(&str, &str)], expect: &[(&str, &str)]| {
            let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let found = Attributes::new(&options).unwrap().of(&identity());
            let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(found, expect, "{options:?}");
        };
        check(&[], &[]);
        check(&[("labels", "c,none"), ("env", "X,EMPTY")], &[("X", "y=z"), ("c", "2")]);
        check(&[("labels-regex", "^a"), ("env-regex", "ATH")], &[("PATH", "/bin"), ("a.b", "1")]);
        assert!(Attributes::new(&BTreeMap::from([("env-regex".to_owned(), "(".to_owned())])).is_err());
    }
}
