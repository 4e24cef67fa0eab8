//! `inspect` and `history`.

use crate::cli::Kind;
use crate::cli::image::{History, Inspect};
use crate::context::{self, Context, Need};
use crate::failure::{Failure, Outcome};
use crate::render::history::{listing, rows};
use crate::template::{Template, Value};
use crate::terminal;

/// What `inspect` without a daemon can look for.
pub fn of_image(args: crate::cli::Inspect) -> Outcome<Inspect> {
    if !matches!(args.kind, None | Some(Kind::Image)) {
        return Err(Failure::Usage("the store alone has images and nothing else: leave --root away".to_owned()));
    }
    Ok(Inspect { images: args.names, format: args.format, platform: None })
}

/// Shows all that is known about images: those that are there, whatever happens to the others.
pub fn run(context: &Context, args: &Inspect) -> Outcome {
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(format) => Some(Template::parse(format)?),
    };
    let images = context.images(Need::Store)?;
    let (mut found, mut failed) = (Vec::new(), false);
    context::run(async {
        for image in &args.images {
            match images.inspect(image, args.platform.clone()).await {
                Ok(inspect) => found.push(Value::of(&inspect)?),
                Err(error) => {
                    failed = true;
                    let Failure::Error(report) = Failure::from(error) else { continue };
                    terminal::tell(&report.lines(terminal::colours()));
                }
            }
        }
        Ok(())
    })?;
    terminal::print(&match template {
        None if args.format.is_some() => json_compact(&found)?,
        None => json(&found)?,
        Some(template) => {
            found.iter().try_fold(String::new(), |out, one| Ok::<_, Failure>(out + &template.render(one)? + "\n"))?
        }
    })?;
    if failed { Err(Failure::Said) } else { Ok(()) }
}

/// A document as Docker prints it: four spaces a level, each element of the list on its own lines.
pub fn json(found: &[Value]) -> Outcome<String> {
    let mut out = Vec::new();
    let form = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    serde::Serialize::serialize(found, &mut serde_json::Serializer::with_formatter(&mut out, form))?;
    out.push(b'\n');
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// The list in one line.
pub fn json_compact(found: &[Value]) -> Outcome<String> {
    Ok(serde_json::to_string(found)? + "\n")
}

/// Shows how an image came to be.
pub fn history(context: &Context, args: &History) -> Outcome {
    let asked = args.output.format.as_deref();
    let listing = listing(args.human);
    let form = listing.form(if args.quiet && asked.is_none() { Some("{{.ID}}") } else { asked })?;
    let images = context.images(Need::Store)?;
    let steps = context::run(async { Ok(images.history(&args.image, args.platform.clone()).await?) })?;
    if args.output.json {
        return terminal::print(&(serde_json::to_string(&steps)? + "\n"));
    }
    let rows = rows(&steps, args.human, args.no_trunc, context::now());
    let width = terminal::width().filter(|_| !args.no_trunc);
    terminal::print(&listing.render(&form, &rows, width)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_keep_their_order() {
        let value: Value = serde_json::from_str(r#"{"b":[1,"é<"],"a":null,"c":{}}"#).unwrap();
        let text = json(std::slice::from_ref(&value)).unwrap();
        let expect = "[\n    {\n        \"b\": [\n            1,\n            \"é<\"\n        ],\n        \"a\": null,\n        \"c\": {}\n    }\n]\n";
        assert_eq!(text, expect);
        assert_eq!(json(&[]).unwrap(), "[]\n");
        assert_eq!(json_compact(&[value]).unwrap(), "[{\"b\":[1,\"é<\"],\"a\":null,\"c\":{}}]\n");
    }
}
