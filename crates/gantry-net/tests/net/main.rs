//! The networks of an engine in namespaces of their own.
