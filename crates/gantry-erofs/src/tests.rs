//! Images that are written, and read back by a reader of its own.
