//! The executable as people and programs call it: against a store of its own and a registry on loopback.
//!
//! What unpacks layers needs root; where that is missing, those tests say loudly that they were skipped.

mod about;
mod client;
mod daemon;
mod daemon_kit;
mod daemon_replace;
mod fake;
mod images;
mod refused;
mod registry;
mod tls;
mod world;
