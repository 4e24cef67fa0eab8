//! The networks of an engine, in namespaces of their own: the machine's are never touched.

mod kit;
mod names;
mod ports;
mod reach;
mod upkeep;
