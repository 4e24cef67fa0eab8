//! Gzip streams, unpacked.
//!
//! Nearly all layers of images are gzip, of which one stream can only be unpacked by one processor, so a pull waits for
//! this more than for anything else. Two things make it quick: codes are looked up in tables that say at once all there is
//! to do, and the input, the window and what comes out are two flat buffers with room to spare, so that the inner loop
//! checks for their ends once for several codes. The formats are RFC 1951 and RFC 1952. What is read is hostile: any input
//! gives an error or bytes, and the memory is always the same.

mod bits;
mod block;
mod error;
mod gzip;
mod table;

#[cfg(test)]
mod tests;

pub use error::{Error, Result};
pub use gzip::Reader;
