//! `push`.

use gantry_images::{Images, ListOptions, PushOptions, Pushed};
use gantry_model::image;
use gantry_model::reference::{DEFAULT_TAG, Reference};
use serde_json::json;

use crate::cli::image::{Compression, Push};
use crate::context::{self, Context, Need};
use crate::failure::{Failure, Of, Outcome};
use crate::progress::{Display, Mode};
use crate::terminal;

/// Uploads an image, or all tags of a repository.
pub fn run(context: &Context, args: &Push) -> Outcome {
    check(args)?;
    let images = context.images(Need::Store)?;
    context::run(async {
        for name in names(&images, args).await? {
            one(&images, &name, args).await?;
        }
        Ok(())
    })
}

/// What the flags cannot say together.
pub fn check(args: &Push) -> Outcome {
    let name = &args.name;
    if args.all_tags && (name.tag().is_some() || name.digest().is_some()) {
        return Err(Failure::Usage(format!("tag can't be used with --all-tags/-a: {}", name.familiar())));
    }
    if name.digest().is_some() {
        return Err(Failure::Usage("cannot push a digest reference".to_owned()));
    }
    if args.compression != Compression::Zstd && args.compression_level.is_some_and(|level| level > 9) {
        return Err(Failure::Usage("invalid value for --compression-level: gzip has 1 to 9".to_owned()));
    }
    Ok(())
}

/// What is pushed: a name, or every tag of the repository that is here.
async fn names(images: &Images, args: &Push) -> Outcome<Vec<Reference>> {
    let name = &args.name;
    if !args.all_tags {
        let full = name.clone().with_default_tag();
        if full != *name && !args.quiet && !args.json {
            terminal::tell(&format!("Using default tag: {DEFAULT_TAG}\n"));
        }
        return Ok(vec![full]);
    }
    let all = images.list(ListOptions::default()).await?;
    let tags = all.iter().flat_map(|one| &one.repo_tags).filter_map(|text| text.parse::<Reference>().ok());
    let mut tags: Vec<Reference> = tags.filter(|tag| tag.name() == name.name()).collect();
    tags.sort();
    if tags.is_empty() {
        let text = format!("An image does not exist locally with the tag: {}", name.familiar());
        return Err(Failure::new(text).of(format!("push {}", name.familiar())));
    }
    Ok(tags)
}

async fn one(images: &Images, name: &Reference, args: &Push) -> Outcome {
    let mode = Mode::of(args.quiet, args.json);
    if mode == Mode::Lines {
        terminal::tell(&format!("The push refers to repository [{}]\n", name.name()));
    }
    let display = Display::new(mode);
    let options = PushOptions {
        platform: args.platform.clone(),
        compression: match args.compression {
            Compression::Keep => None,
            Compression::Gzip => Some(image::Compression::Gzip),
            Compression::Zstd => Some(image::Compression::Zstd),
        },
        level: args.compression_level.map(u32::from),
        recompress: args.compression != Compression::Keep,
    };
    let pushed = images.push(name, options, display.reporter()).await;
    drop(display);
    terminal::print(&result(name, &pushed.of(format!("push {}", name.familiar()))?, mode))
}

/// What is printed at the end, as Docker does.
fn result(name: &Reference, pushed: &Pushed, mode: Mode) -> String {
    let (digest, size) = (&pushed.target.digest, pushed.target.size);
    match mode {
        Mode::Quiet => format!("{name}\n"),
        Mode::Json => {
            format!("{}\n", json!({"status": "Pushed", "name": name.familiar(), "digest": digest, "size": size}))
        }
        Mode::Lines => format!("{}: digest: {digest} size: {size}\n", name.target()),
    }
}
