//! Execution domains (personality(2); config-linux.md, Personality).

use super::NameError;
use crate::oci::linux::Personality;

/// The value that personality(2) takes, and the flags that are left out with a warning: the specification defines none,
/// and what the system call knows beyond it switches protections off.
pub fn persona(given: &Personality) -> Result<(u32, &[String]), NameError> {
    let persona = match given.domain.as_str() {
        "LINUX" => 0,
        "LINUX32" => 8,
        other => return Err(NameError::unknown("personality domain", other, "LINUX or LINUX32 is meant")),
    };
    Ok((persona, &given.flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains() {
        let check = |domain: &str, flags: &[&str], expect: Option<u32>| {
            let flags: Vec<String> = flags.iter().map(|&f| f.to_owned()).collect();
            let given = Personality { domain: domain.to_owned(), flags: flags.clone() };
            assert_eq!(persona(&given).ok(), expect.map(|n| (n, flags.as_slice())), "{given:?}");
        };
        check("LINUX", &[], Some(0));
        check("LINUX32", &[], Some(8));
        check("LINUX", &["ADDR_NO_RANDOMIZE"], Some(0));
        for domain in ["", "linux", "PER_LINUX", "LINUX32\0", "8", "BSD"] {
            check(domain, &[], None);
        }
    }
}
