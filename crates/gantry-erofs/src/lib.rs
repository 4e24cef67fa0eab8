//! EROFS images, written as a stream.
