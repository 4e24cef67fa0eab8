//! Addresses: blocks for networks, and from a network's block one for each container.
//!
//! Everything here is data and functions of it. What the host has of addresses and routes comes in as blocks that are
//! taken. The state of a network, [`Addresses`], is plain: it can be kept, or made again from the containers there are.

mod addresses;
mod pools;

pub use addresses::Addresses;
pub use pools::{Pool, Pools};
