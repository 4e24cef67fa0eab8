//! What can go wrong with images.
//!
//! Where Docker has a text of its own for a failure, that people and programs look for, it is Docker's.

use std::io;

use gantry_model::digest::Digest;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate: which image or document, why it failed, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] gantry_store::Error),
    /// A layer could not be read or written.
    #[error(transparent)]
    Layer(#[from] gantry_store::layer::LayerError),
    /// The registry, or the way to it, failed.
    #[error(transparent)]
    Registry(#[from] gantry_distribution::Error),
    /// An archive is damaged.
    #[error(transparent)]
    Archive(#[from] gantry_tar::Error),
    /// There is no such image. The text is Docker's.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// The beginning of an id that several images share.
    #[error("{prefix} is the beginning of the ids of {count} images: give more of it")]
    Ambiguous {
        /// As it was asked.
        prefix: String,
        /// Images.
        count: usize,
    },
    /// A name that is to be pushed and is not here. The text is Docker's.
    #[error("An image does not exist locally with the tag: {0}")]
    NotLocal(String),
    /// There is no image for the platform that was asked for.
    #[error("{image}: no image for platform {wanted}; there is {there}")]
    NoPlatform {
        /// The image.
        image: String,
        /// Platform that was asked for.
        wanted: String,
        /// Those there are.
        there: String,
    },
    /// A manifest, index, configuration or other document is refused.
    #[error("{what}: {why}")]
    Document {
        /// Which.
        what: String,
        /// Reason.
        why: String,
    },
    /// A layer is not what the configuration says.
    #[error("layer {layer} of {image} has the diff id {found} instead of {expected}: the image is damaged or forged")]
    DiffId {
        /// The image.
        image: String,
        /// Digest of the layer's blob.
        layer: Digest,
        /// As the configuration says.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// A layer cannot be had from the store any more as it was.
    #[error("layer {0} is not in the store as it came: pull or load the image again")]
    LayerGone(Digest),
    /// What was asked for would harm something that is in use. The texts are Docker's.
    #[error("conflict: {0}")]
    Conflict(String),
    /// Something that was asked for cannot be used.
    #[error("{what} {value:?}: {why}")]
    Invalid {
        /// What it is.
        what: &'static str,
        /// Its value.
        value: String,
        /// Reason.
        why: String,
    },
    /// An archive is not of a kind that can be loaded.
    #[error("this archive cannot be loaded: {0}")]
    Load(String),
    /// The stream that is read from or written to failed.
    #[error("{action}: {source}")]
    Io {
        /// What was done.
        action: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A part of the work ended unexpectedly.
    #[error("a task of {0} ended unexpectedly")]
    Task(&'static str),
}

impl Error {
    /// Whether the image that was asked for is not here.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NoSuchImage(_) | Self::NotLocal(_))
    }

    /// Whether the image is in use.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }

    pub(crate) fn document(what: impl Into<String>, why: impl Into<Why>) -> Self {
        Self::Document { what: what.into(), why: why.into().0 }
    }

    pub(crate) fn invalid(what: &'static str, value: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { what, value: value.into().chars().take(160).collect(), why: why.into() }
    }

    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

/// A reason: a text, or the error that is one.
pub(crate) struct Why(String);

impl From<&str> for Why {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Why {
    fn from(text: String) -> Self {
        Self(text)
    }
}

macro_rules! reasons {
    ($($error:ty),*) => {
        $(impl From<$error> for Why {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        })*
    };
}

reasons!(
    serde_json::Error,
    gantry_model::image::InvalidDocument,
    gantry_model::digest::InvalidDigest,
    gantry_model::reference::InvalidReference
);
