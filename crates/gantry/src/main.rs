//! The command line of Gantry.

fn main() {}
