//! I/O scheduling class and priority (ioprio_set(2); config.md, Linux Process).

use super::{NameError, lookup};
use crate::oci::spec::IoPriority;

/// Classes by name.
const CLASSES: [(&str, u16); 3] = [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];

/// Bits of a value below the class.
const CLASS_SHIFT: u16 = 13;

/// The value that ioprio_set(2) takes: the class in its upper three bits, the priority, 0 to 7, below.
pub fn value(priority: &IoPriority) -> Result<u16, NameError> {
    let class = lookup(&CLASSES, &priority.class).ok_or_else(|| {
        let hint = "IOPRIO_CLASS_RT, IOPRIO_CLASS_BE or IOPRIO_CLASS_IDLE is meant";
        NameError::unknown("io priority class", &priority.class, hint)
    })?;
    match u16::try_from(priority.priority) {
        Ok(level) if level <= 7 => Ok(class << CLASS_SHIFT | level),
        _ => Err(NameError::invalid("io priority", &priority.priority.to_string(), "a level from 0 to 7 is meant")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let check = |class: &str, priority: i32, expect: Option<u16>| {
            let given = IoPriority { class: class.to_owned(), priority };
            assert_eq!(value(&given).ok(), expect, "{given:?}");
        };
        check("IOPRIO_CLASS_RT", 0, Some(0x2000));
        check("IOPRIO_CLASS_BE", 4, Some(0x4004));
        check("IOPRIO_CLASS_IDLE", 7, Some(0x6007));
        for (class, priority) in [
            ("", 0),
            ("IOPRIO_CLASS_NONE", 0),
            ("ioprio_class_be", 0),
            ("IOPRIO_CLASS_BE\0", 0),
            ("IOPRIO_CLASS_BE", 8),
            ("IOPRIO_CLASS_BE", -1),
            ("IOPRIO_CLASS_BE", i32::MAX),
            ("IOPRIO_CLASS_BE", i32::MIN),
            ("IOPRIO_CLASS_BE", 65_536),
        ] {
            check(class, priority, None);
        }
    }
}
