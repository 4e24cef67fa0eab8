//! From what was found to what is printed. Everything here is data to text.

pub mod changes;
pub mod history;
pub mod images;
pub mod listing;
pub mod removed;
pub mod table;
pub mod units;
pub mod usage;

/// An id as it is shown: the first twelve digits, or all of it.
pub fn id(text: &str, whole: bool) -> String {
    if whole {
        return text.to_owned();
    }
    let digits = text.split_once(':').map_or(text, |(_, digits)| digits);
    digits.chars().take(12).collect()
}
