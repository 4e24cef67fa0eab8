//! What the file system itself is told: flags and data, as fsconfig(2) and mount(2) take them.

use super::MountOptions;
use super::table::ms;

/// Longest key and value that fsconfig(2) takes, in bytes.
const FSCONFIG_MAX: usize = 255;

/// Flags of a file system, and their names in fsconfig(2), set and cleared.
const FLAG_NAMES: [(u64, &str, &str); 4] = [
    (ms::SYNCHRONOUS, "sync", "async"),
    (ms::DIRSYNC, "dirsync", ""),
    (ms::MANDLOCK, "mand", "nomand"),
    (ms::LAZYTIME, "lazytime", "nolazytime"),
];

/// The names for `FSCONFIG_SET_FLAG`, but for `ro`, which is the caller's choice.
pub type FsConfigFlags = Vec<&'static str>;

/// An option for a file system, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataOption {
    /// Name.
    pub key: String,
    /// Value, for `FSCONFIG_SET_STRING`; `None` asks for `FSCONFIG_SET_FLAG`.
    pub value: Option<String>,
}

impl MountOptions {
    /// The flags of the file system by the names that fsconfig(2) has for them. It has none for `silent`, which only
    /// quietens the kernel's log, nor for `iversion`, which file systems decide for themselves.
    pub fn fsconfig_flags(&self) -> FsConfigFlags {
        let name = |&(flag, set, clear): &(u64, &'static str, &'static str)| {
            if self.flags & flag != 0 {
                Some(set)
            } else if self.cleared_flags & flag != 0 && !clear.is_empty() {
                Some(clear)
            } else {
                None
            }
        };
        FLAG_NAMES.iter().filter_map(name).collect()
    }

    /// The options for a file system of type `kind`, taken apart as the kernel takes the data of mount(2) apart: at
    /// commas, but for those within quotes of a security label, and for those behind a backslash in an overlay's.
    pub fn data_options(&self, kind: &str) -> Vec<DataOption> {
        let mut options = Vec::new();
        for text in &self.data {
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let (option, after) = split_first(rest, kind == "overlay");
                rest = after;
                options.extend(data_option(option));
            }
        }
        options
    }

    /// The options as the data of mount(2).
    pub fn data_text(&self) -> String {
        self.data.join(",")
    }

    /// Whether fsconfig(2) can be given all of the data: it takes keys and values of up to 255 bytes only, where mount(2)
    /// takes a page. An overlay of many layers needs the latter, or layers given one by one.
    pub fn fits_fsconfig(&self, kind: &str) -> bool {
        let fits = |text: &str| text.len() <= FSCONFIG_MAX;
        self.data_options(kind).iter().all(|o| fits(&o.key) && o.value.as_deref().is_none_or(fits))
    }
}

/// Whether an option is a security label, whose value may be quoted.
fn is_label(option: &str) -> bool {
    ["context=", "fscontext=", "defcontext=", "rootcontext="].iter().any(|key| option.starts_with(key))
}

/// The first option of a text, and what comes behind its comma.
fn split_first(text: &str, escapes: bool) -> (&str, &str) {
    let quotes = is_label(text);
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if escapes => escaped = true,
            '"' if quotes => quoted = !quoted,
            ',' if !quoted => return (text.get(..at).unwrap_or(text), text.get(at + 1..).unwrap_or_default()),
            _ => {}
        }
    }
    (text, "")
}

/// Takes an option apart; one without a name is nothing, as the kernel has it.
fn data_option(option: &str) -> Option<DataOption> {
    let (key, value) = match option.split_once('=') {
        Some((key, value)) if is_label(option) => (key, Some(value.replace('"', ""))),
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (option, None),
    };
    (!key.is_empty()).then(|| DataOption { key: key.to_owned(), value })
}
