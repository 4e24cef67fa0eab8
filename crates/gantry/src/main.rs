//! The command line of Gantry.
mod cli;
mod commands;
mod failure;
mod log;
mod prompt;
mod render;
mod template;
mod terminal;
fn main() {}
