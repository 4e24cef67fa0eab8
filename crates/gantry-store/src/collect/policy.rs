//! What is collected, and what is kept.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_model::image::Descriptor;
use gantry_model::reference::Reference;

/// What a collection removes. Content and layers that nothing refers to, and beginnings of
/// blobs that nobody came back for, go in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether images without a name go.
    pub dangling: bool,
    /// Whether images with a name go that no snapshot uses.
    pub unused: bool,
    /// What nothing refers to stays if it came here more recently: so a pull that was given up can be tried again.
    pub min_age: Option<Duration>,
    /// Of images, only those go that were not used for so long.
    pub max_age: Option<Duration>,
    /// Beyond this size of blobs and layers, unused images go, those that were not used for the longest time first, until
    /// it fits.
    pub max_bytes: Option<u64>,
    /// What stays whatever else is said: an image that one of these fits.
    pub keep: Vec<Filter>,
    /// If there are any, of images only those go that one of these fits.
    pub only: Vec<Filter>,
}

/// Picks images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// One with this label, with this value if there is one.
    Label(String, Option<String>),
    /// One that has a name which fits: `*` stands for any text. It is compared with the whole name and the familiar one,
    /// with and without the tag.
    Name(String),
}

impl Default for Policy {
    /// What nothing refers to, an hour after it came, and nothing else: names and dangling images are the user's.
    fn default() -> Self {
        Self { min_age: Some(Duration::from_secs(3600)), ..Self::unreferenced() }
    }
}

impl Policy {
    /// Leaves all images alone.
    pub fn unreferenced() -> Self {
        Self {
            dangling: false,
            unused: false,
            min_age: None,
            max_age: None,
            max_bytes: None,
            keep: Vec::new(),
            only: Vec::new(),
        }
    }

    /// Images without a name too.
    pub fn dangling() -> Self {
        Self { dangling: true, ..Self::unreferenced() }
    }

    /// All images that no snapshot uses.
    pub fn unused() -> Self {
        Self { dangling: true, unused: true, ..Self::unreferenced() }
    }
}

/// An image as a policy sees it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) target: Descriptor,
    pub(crate) names: Vec<Reference>,
    pub(crate) used: i64,
    pub(crate) labels: Vec<BTreeMap<String, String>>,
    pub(crate) in_use: bool,
}

impl Filter {
    fn fits(&self, image: &Candidate) -> bool {
        match self {
            Self::Label(key, value) => image
                .labels
                .iter()
                .any(|labels| labels.get(key).is_some_and(|there| value.as_ref().is_none_or(|value| value == there))),
            Self::Name(pattern) => image.names.iter().any(|name| {
                let forms = [name.to_string(), name.familiar(), name.name(), name.familiar_name().to_owned()];
                forms.iter().any(|form| wildcard(pattern.as_bytes(), form.as_bytes()))
            }),
        }
    }
}

impl Policy {
    /// Whether it lets an image go for its own sake.
    pub(crate) fn removes(&self, image: &Candidate, now: i64) -> bool {
        let age = now.saturating_sub(image.used);
        let old = self.max_age.is_none_or(|max| i128::from(age) >= i128::try_from(max.as_nanos()).unwrap_or(i128::MAX));
        let asked = if image.names.is_empty() { self.dangling } else { self.unused };
        asked && old && self.may_remove(image)
    }

    /// Whether it lets an image go at all.
    pub(crate) fn may_remove(&self, image: &Candidate) -> bool {
        let only = self.only.is_empty() || self.only.iter().any(|filter| filter.fits(image));
        !image.in_use && only && !self.keep.iter().any(|filter| filter.fits(image))
    }
}

/// Whether a text fits a pattern in which `*` is any text. Takes time linear in the product of their lengths at most.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, text: &str, expect: bool| {
            assert_eq!(wildcard(pattern.as_bytes(), text.as_bytes()), expect, "{pattern} {text}");
        };
        check("nginx", "nginx", true);
        check("nginx", "nginx:1", false);
        check("nginx*", "nginx:1", true);
        check("*/a/*:v*", "x.io/a/b:v1", true);
        check("*a*b*c", "aXbXc", true);
        check("*a*b*c", "aXbX", false);
        check("", "", true);
        check("*", "", true);
        check("", "a", false);
    }

    #[test]
    fn policies() {
        let hour = Duration::from_secs(3600);
        let image = |names: &[&str], hours: i64, in_use: bool| Candidate {
            target: Descriptor::new("", format!("sha256:{}", "a".repeat(64)).parse().unwrap(), 1),
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            used: (100 - hours) * 3_600_000_000_000,
            labels: vec![[("keep".to_owned(), "yes".to_owned())].into_iter().collect()],
            in_use,
        };
        let check = |policy: &Policy, image: &Candidate, expect: bool| {
            assert_eq!(policy.removes(image, 100 * 3_600_000_000_000), expect, "{policy:?} {image:?}");
        };
        check(&Policy::default(), &image(&[], 50, false), false);
        check(&Policy::dangling(), &image(&[], 0, false), true);
        check(&Policy::dangling(), &image(&["a"], 0, false), false);
        check(&Policy::unused(), &image(&["a"], 0, false), true);
        check(&Policy::unused(), &image(&["a"], 0, true), false);
        let old = Policy { max_age: Some(10 * hour), ..Policy::unused() };
        check(&old, &image(&["a"], 9, false), false);
        check(&old, &image(&["a"], 10, false), true);
        let label = |value: Option<&str>| Filter::Label("keep".into(), value.map(Into::into));
        check(&Policy { keep: vec![label(None)], ..Policy::unused() }, &image(&["a"], 0, false), false);
        check(&Policy { keep: vec![label(Some("no"))], ..Policy::unused() }, &image(&["a"], 0, false), true);
        check(
            &Policy { keep: vec![Filter::Name("a:*".into())], ..Policy::unused() },
            &image(&["a:1"], 0, false),
            false,
        );
        check(&Policy { only: vec![Filter::Name("b".into())], ..Policy::unused() }, &image(&["a:1"], 0, false), false);
        check(&Policy { only: vec![label(Some("yes"))], ..Policy::unused() }, &image(&["a:1"], 0, false), true);
    }
}
