//! The commands for images.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};
use gantry_model::platform::Platform;
use gantry_model::reference::Reference;

use super::Output;

/// `pull`.
#[derive(Clone, Debug, Args)]
pub struct Pull {
    /// Names of images: [REGISTRY/]REPOSITORY[:TAG][@DIGEST]
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<Reference>,
    /// Every tag of the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// The platform, as linux/arm64; of this machine by default
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with = "all_platforms")]
    pub platform: Option<Platform>,
    /// Every platform that the image is for
    #[arg(long)]
    pub all_platforms: bool,
    /// Print nothing but the name
    #[arg(short, long)]
    pub quiet: bool,
    /// Progress and result as lines of JSON, for programs
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
}

/// How layers are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// As they came; gzip for those that are made here
    Keep,
    /// gzip, which everything reads
    Gzip,
    /// Zstandard: smaller, and faster to unpack
    Zstd,
}

/// `push`.
#[derive(Clone, Debug, Args)]
pub struct Push {
    /// Name of the image: [REGISTRY/]REPOSITORY[:TAG]
    #[arg(value_name = "NAME")]
    pub name: Reference,
    /// Every tag of the repository that is here
    #[arg(short, long)]
    pub all_tags: bool,
    /// Only the image for a platform, of an image for several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// How layers are compressed
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Compression::Keep)]
    pub compression: Compression,
    /// How hard: 1 to 9 for gzip, 1 to 19 for zstd
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(1..=19))]
    pub compression_level: Option<u8>,
    /// Print nothing but the name
    #[arg(short, long)]
    pub quiet: bool,
    /// Progress and result as lines of JSON, for programs
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
}

/// `images`.
#[derive(Clone, Debug, Args)]
pub struct List {
    /// Only images of this name: REPOSITORY[:TAG], with * and ?
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// All images, which is also what is listed without it
    #[arg(short, long, hide = true)]
    pub all: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// Only images for which this holds: dangling=BOOL, label=KEY[=VALUE], before=IMAGE, since=IMAGE, reference=PATTERN,
    /// until=TIME
    #[arg(short, long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Show whole ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Print nothing but ids
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub output: Output,
}

/// `rmi`.
#[derive(Clone, Debug, Args)]
pub struct Remove {
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// Also an image with several names, or in use; and a missing one is no error
    #[arg(short, long)]
    pub force: bool,
    /// One JSON document, for programs
    #[arg(long)]
    pub json: bool,
}

/// `tag`.
#[derive(Clone, Debug, Args)]
pub struct Tag {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// The new name: [REGISTRY/]REPOSITORY[:TAG]
    #[arg(value_name = "NAME")]
    pub name: Reference,
}

/// `inspect`.
#[derive(Clone, Debug, Args)]
pub struct Inspect {
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// Form: 'json', or a TEMPLATE of Go
    #[arg(short, long, value_name = "FORM")]
    pub format: Option<String>,
    /// The image for a platform, of an image for several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
}

/// `history`.
#[derive(Clone, Debug, Args)]
pub struct History {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Sizes and times for people
    #[arg(
        short = 'H', long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set
    )]
    pub human: bool,
    /// Show whole commands and ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Print nothing but ids
    #[arg(short, long)]
    pub quiet: bool,
    /// The image for a platform, of an image for several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    #[command(flatten)]
    pub output: Output,
}

/// The forms of archives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Archive {
    /// What docker save writes
    #[value(name = "docker-archive", alias = "docker")]
    Docker,
    /// An OCI image layout
    #[value(name = "oci-archive", alias = "oci")]
    Oci,
}

/// `save`.
#[derive(Clone, Debug, Args)]
pub struct Save {
    /// Names or ids of images
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// Write to a file, not to standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Form of the archive
    #[arg(long, value_enum, value_name = "FORM", default_value_t = Archive::Docker)]
    pub format: Archive,
    /// Only the image for a platform, of an image for several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
}

/// `load`.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// Read from a file, not from standard input
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Only images for a platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Progress and result as lines of JSON, for programs
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
}

/// `import`.
#[derive(Clone, Debug, Args)]
pub struct Import {
    /// The archive, compressed or not; - is standard input
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Name of the new image: REPOSITORY[:TAG]
    #[arg(value_name = "NAME")]
    pub name: Option<Reference>,
    /// An instruction of a Dockerfile, which sets something in the configuration
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// A word about it, for its history
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// The platform that it is for; this machine's by default
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// The id as JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// `export`.
#[derive(Clone, Debug, Args)]
pub struct Export {
    /// Name or id of the container, or else of the image
    #[arg(value_name = "NAME")]
    pub image: String,
    /// Write to a file, not to standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The image for a platform, of an image for several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
}

/// `image prune`.
#[derive(Clone, Debug, Args)]
pub struct Prune {
    /// Also images that have a name, and are not used
    #[arg(short, long)]
    pub all: bool,
    /// Only images for which this holds: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "FILTER")]
    pub filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Remove nothing, and say what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON document, for programs
    #[arg(long)]
    pub json: bool,
}

/// `image diff`.
#[derive(Clone, Debug, Args)]
pub struct Diff {
    /// Name or id of the image that is compared with
    #[arg(value_name = "OLD")]
    pub old: String,
    /// Name or id of the image whose files are shown
    #[arg(value_name = "NEW")]
    pub new: String,
    /// The images for a platform, of images for several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// One JSON document, for programs
    #[arg(long)]
    pub json: bool,
}
