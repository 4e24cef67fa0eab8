//! `images`.

use gantry_images::{Filters, ListOptions};

use crate::cli::image::List;
use crate::context::{self, Context, Need};
use crate::failure::{Failure, Outcome};
use crate::render::images::{LISTING, Rows, WITH_DIGESTS};
use crate::terminal;

/// Lists images.
pub fn run(context: &Context, args: &List) -> Outcome {
    let listing = if args.digests { WITH_DIGESTS } else { LISTING };
    let asked = args.output.format.as_deref();
    // A wrong template is found before anything is done.
    let form = listing.form(if args.quiet && asked.is_none() { Some("{{.ID}}") } else { asked })?;
    let mut filters = filters(&args.filter)?;
    if let Some(name) = &args.name {
        filters.entry("reference".to_owned()).or_default().push(name.clone());
    }
    let images = context.images(Need::Store)?;
    let options = ListOptions { filters, ..ListOptions::default() };
    let found = context::run(async { Ok(images.list(options).await?) })?;
    if args.output.json {
        return terminal::print(&(serde_json::to_string(&found)? + "\n"));
    }
    // A template may ask for digests where the flag does not.
    let digests = args.digests || asked.is_some_and(|format| format.contains(".Digest"));
    let rows = Rows { digests, whole: args.no_trunc, now: context::now() }.of(&found);
    let width = terminal::width().filter(|_| !args.no_trunc);
    terminal::print(&listing.render(&form, &rows, width)?)
}

/// `NAME=VALUE` as the API has it; `label!=x` is the filter `label!`.
pub fn filters(asked: &[String]) -> Outcome<Filters> {
    let mut filters = Filters::new();
    for text in asked {
        let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(Failure::Usage(format!("invalid filter {text:?}: write NAME=VALUE, such as dangling=true")));
        };
        filters.entry(name.trim().to_ascii_lowercase()).or_default().push(value.trim().to_owned());
    }
    Ok(filters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read() {
        let check = |asked: &[&str], expect: &str| {
            let asked: Vec<String> = asked.iter().map(|&a| a.to_owned()).collect();
            let got = match filters(&asked) {
                Ok(filters) => format!("{filters:?}"),
                Err(Failure::Usage(text)) => format!("!{text}"),
                Err(other) => format!("{other:?}"),
            };
            assert_eq!(got, expect);
        };
        check(&["dangling=true"], r#"{"dangling": ["true"]}"#);
        check(&["label=a=b", "Label=c", "label!=d=e"], r#"{"label": ["a=b", "c"], "label!": ["d=e"]}"#);
        check(&["dangling"], "!invalid filter \"dangling\": write NAME=VALUE, such as dangling=true");
        check(&["=x"], "!invalid filter \"=x\": write NAME=VALUE, such as dangling=true");
    }
}
