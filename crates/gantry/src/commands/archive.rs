//! `save`, `load`, `import` and `export`.

use std::fmt::Write as _;
use std::path::Path;

use gantry_images::{Format, ImportOptions, LoadOptions, Loading, SaveOptions};
use serde_json::json;

use super::stream::{self, Output};
use crate::cli::image::{Archive, Export, Import, Load, Save};
use crate::context::{self, Context, Need};
use crate::failure::{Failure, Of, Outcome};
use crate::progress::{Display, Mode};
use crate::terminal;

/// Writes images to an archive.
pub fn save(context: &Context, args: &Save) -> Outcome {
    let output = Output::open(args.output.as_deref(), "save")?;
    let images = context.images(Need::Store)?;
    let format = match args.format {
        Archive::Docker => Format::DockerArchive,
        Archive::Oci => Format::OciArchive,
    };
    let options = SaveOptions { format, platform: args.platform.clone() };
    let writer = output.writer()?;
    let outcome = context::run(async { Ok(images.save(&args.images, writer, options).await?) });
    output.finish(outcome)
}

/// Reads images from an archive, or from a layout in a directory.
pub fn load(context: &Context, args: &Load) -> Outcome {
    let directory = args.input.as_deref().filter(|input| input.is_dir());
    let archive = if directory.is_some() { None } else { Some(stream::input(args.input.as_deref())?) };
    let images = context.images(Need::Unpack)?;
    let display = Display::new(Mode::of(args.quiet, args.json));
    let options = LoadOptions { platform: args.platform.clone() };
    let loaded = context::run(async {
        Ok(match (directory, archive) {
            (Some(directory), _) => images.load_layout(directory, options, display.reporter()).await?,
            (None, Some(archive)) => images.load(archive, options, display.reporter()).await?,
            (None, None) => Vec::new(),
        })
    });
    drop(display);
    let loaded = loaded.of(format!("load {}", shown(args.input.as_deref())))?;
    terminal::print(&if args.json { loaded_json(&loaded) } else { loaded_lines(&loaded) })
}

fn shown(input: Option<&Path>) -> String {
    input.map_or_else(|| "standard input".to_owned(), |input| input.display().to_string())
}

fn loaded_lines(loaded: &[Loading]) -> String {
    loaded.iter().fold(String::new(), |mut out, one| {
        for name in &one.names {
            let _ = writeln!(out, "Loaded image: {}", name.familiar());
        }
        if one.names.is_empty() {
            let _ = writeln!(out, "Loaded image ID: {}", one.id);
        }
        out
    })
}

fn loaded_json(loaded: &[Loading]) -> String {
    loaded.iter().fold(String::new(), |out, one| {
        let names: Vec<String> = one.names.iter().map(gantry_model::reference::Reference::familiar).collect();
        out + &format!("{}\n", json!({"status": "Loaded", "id": one.id, "names": names}))
    })
}

/// Makes an image of an archive of files.
pub fn import(context: &Context, args: &Import) -> Outcome {
    if args.file.starts_with("http://") || args.file.starts_with("https://") {
        let text = format!("import {}: archives are not fetched from the network", args.file);
        return Err(Failure::new(text).hint("fetch it first, as with curl -L, and pipe it into gantry import -"));
    }
    let archive = stream::input(Some(args.file.as_str()).filter(|file| *file != "-").map(Path::new))?;
    let images = context.images(Need::Unpack)?;
    let options = ImportOptions {
        name: args.name.clone(),
        changes: args.change.clone(),
        message: args.message.clone(),
        platform: args.platform.clone(),
    };
    let id = context::run(async { images.import(archive, options).await.of(format!("import {}", args.file)) })?;
    terminal::print(&imported(&id.to_string(), args.json))
}

/// What is told of an image that was imported.
pub fn imported(id: &str, json: bool) -> String {
    if json { format!("{}\n", json!({"status": "Imported", "id": id})) } else { format!("{id}\n") }
}

/// Writes the files of an image to an archive.
pub fn export(context: &Context, args: &Export) -> Outcome {
    let output = Output::open(args.output.as_deref(), "export")?;
    let images = context.images(Need::Unpack)?;
    let writer = output.writer()?;
    let outcome =
        context::run(async { Ok(images.export_image(&args.image, args.platform.clone(), writer).await.map(drop)?) });
    output.finish(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded() {
        let id = || format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let loaded = [
            Loading { id: id(), names: vec!["nginx:1".parse().unwrap(), "localhost:5000/a:b".parse().unwrap()] },
            Loading { id: id(), names: vec![] },
        ];
        assert_eq!(
            loaded_lines(&loaded),
            format!("Loaded image: nginx:1\nLoaded image: localhost:5000/a:b\nLoaded image ID: {}\n", loaded[1].id)
        );
        let json = loaded_json(&loaded);
        assert!(
            json.starts_with(&format!("{{\"id\":\"{}\",\"names\":[\"nginx:1\",\"localhost:5000/a:b\"],", loaded[0].id))
        );
        assert_eq!(json.lines().count(), 2);
    }
}
