//! Images: pulled, pushed, saved, loaded.
