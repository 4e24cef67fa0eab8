//! Pure data: identifiers, and the documents of the OCI specifications. Nothing here does I/O, reads a clock or
//! allocates more than its input warrants.

pub mod id;
pub mod names;
pub mod oci;

pub use id::{ContainerId, InvalidId};
