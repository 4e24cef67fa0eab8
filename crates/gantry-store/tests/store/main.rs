//! Tests of the store on real directories. They need root: layers have owners and devices, snapshots are mounted.

mod collect;
mod content;
mod crash;
mod full;
mod kit;
mod layers;
mod snapshots;
