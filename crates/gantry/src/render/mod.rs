//! From what was found to what is printed. Everything here is data to text.

pub mod listing;
pub mod table;
pub mod units;
