//! The engine with real containers, as root: their lives, their streams, and what becomes of them without it.

mod configurations;
mod kit;
mod life;
mod network;
mod sandbox;
mod volumes;
