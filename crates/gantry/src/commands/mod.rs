//! x
mod about;
