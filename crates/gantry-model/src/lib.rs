//! Pure data: identifiers, and the documents of the OCI specifications. Nothing here does I/O, reads a clock or
//! allocates more than its input warrants.

pub mod digest;
pub mod id;
pub mod image;
pub mod logrecord;
pub mod monitor;
pub mod mountinfo;
pub mod names;
pub mod oci;
pub mod platform;
pub mod reference;
pub mod time;

pub use digest::Digest;
pub use id::{ContainerId, InvalidId};
pub use platform::Platform;
pub use reference::Reference;
