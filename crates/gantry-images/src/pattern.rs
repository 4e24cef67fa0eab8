//! Patterns of names, as Go's path.Match and therefore Docker's `--filter reference=` has them.

use gantry_model::reference::Reference;

/// Whether a whole text is of a pattern. `*` and `?` match no slash; `[a-z]` and `[^a]` are classes; a backslash takes
/// what follows as it is. A pattern that is none matches nothing.
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().take(1024).collect();
    let text: Vec<char> = text.chars().collect();
    // Where to go on after the last star, should what follows it not fit: never more than the product of the lengths.
    let (mut p, mut t, mut retry) = (0, 0, None);
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            retry = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t == text.len() && p == pattern.len() {
            return true;
        }
        let step = if p < pattern.len() && t < text.len() { one(&pattern[p..], text[t]) } else { None };
        if let Some(length) = step {
            (p, t) = (p + length, t + 1);
            continue;
        }
        match retry {
            Some((after, at)) if at < text.len() && text[at] != '/' => {
                retry = Some((after, at + 1));
                (p, t) = (after, at + 1);
            }
            _ => return false,
        }
    }
}

/// How long the first element of a pattern is, if it matches a character.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern[0] {
        '?' => (c != '/').then_some(1),
        '\\' => (*pattern.get(1)? == c).then_some(2),
        '[' => class(pattern, c),
        literal => (literal == c).then_some(1),
    }
}

fn class(pattern: &[char], c: char) -> Option<usize> {
    let negated = pattern.get(1) == Some(&'^');
    let first = 1 + usize::from(negated);
    let (mut at, mut found) = (first, false);
    loop {
        if pattern.get(at) == Some(&']') && at > first {
            return (found != negated && c != '/').then_some(at + 1);
        }
        let low = character(pattern, &mut at)?;
        let high = if pattern.get(at) == Some(&'-') {
            at += 1;
            character(pattern, &mut at)?
        } else {
            low
        };
        found |= (low..=high).contains(&c);
    }
}

fn character(pattern: &[char], at: &mut usize) -> Option<char> {
    if pattern.get(*at) == Some(&'\\') {
        *at += 1;
    }
    *at += 1;
    pattern.get(*at - 1).copied()
}

/// Whether a reference, or its name without the tag, is of a pattern as people write names.
pub fn matches_reference(pattern: &str, reference: &Reference) -> bool {
    matches(pattern, &reference.familiar()) || matches(pattern, &familiar_name(reference))
}

/// Registry and repository as people write them.
pub fn familiar_name(reference: &Reference) -> String {
    let bare = Reference::new(reference.registry(), reference.repository(), None, None);
    bare.map_or_else(|_| reference.name(), |bare| bare.familiar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, text: &str, expect: bool| {
            assert_eq!(matches(pattern, text), expect, "{pattern} {text}");
        };
        check("busybox", "busybox", true);
        check("busy*", "busybox", true);
        check("*box", "busybox", true);
        check("b*y*x", "busybox", true);
        check("*", "a/b", false);
        check("*/*", "a/b", true);
        check("a/?", "a/b", true);
        check("a?b", "a/b", false);
        check("[a-c]x", "bx", true);
        check("[^a-c]x", "bx", false);
        check("[]x", "]x", false);
        check("[", "[", false);
        check("\\*", "*", true);
        check("\\*", "a", false);
        check("", "", true);
        check("", "a", false);
        check("a*", "", false);
        check(&"*a".repeat(40), &"a".repeat(39), false);
    }

    #[test]
    fn references() {
        let check = |pattern: &str, name: &str, expect: bool| {
            assert_eq!(matches_reference(pattern, &name.parse().unwrap()), expect, "{pattern} {name}");
        };
        check("nginx", "nginx:1", true);
        check("nginx:1*", "nginx:1.27", true);
        check("nginx:2*", "nginx:1.27", false);
        check("localhost:5000/*", "localhost:5000/app:1", true);
        check("app", "localhost:5000/app:1", false);
    }
}
