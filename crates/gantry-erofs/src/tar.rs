//! From the archive of a layer to an image.
