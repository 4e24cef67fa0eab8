//! Rust text with everything but the code blanked out, so that rules do not trip over comments and literals.

/// The text with comments, strings and character literals replaced by spaces. Lines stay where they were.
pub fn only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let length = literal_or_comment(&bytes[at..], at.checked_sub(1).map(|before| bytes[before]));
        if length == 0 {
            // A byte of a longer character is no code that a rule looks for.
            out.push(if bytes[at].is_ascii() { bytes[at] as char } else { ' ' });
            at += 1;
        } else {
            out.extend(bytes[at..at + length].iter().map(|&byte| if byte == b'\n' { '\n' } else { ' ' }));
            at += length;
        }
    }
    out
}

/// How many bytes of a comment or literal begin here; 0 if none does.
fn literal_or_comment(rest: &[u8], before: Option<u8>) -> usize {
    let after_word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match rest {
        [b'/', b'/', ..] => until(rest, 2, |at| rest[at] == b'\n'),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest),
        [b'r', ..] if !after_word => raw_string(rest, 1),
        [b'b' | b'c', b'r', ..] if !after_word => raw_string(rest, 2),
        [b'\'', ..] => character(rest),
        _ => 0,
    }
}

fn until(rest: &[u8], from: usize, stop: impl Fn(usize) -> bool) -> usize {
    (from..rest.len()).find(|&at| stop(at)).unwrap_or(rest.len())
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.resize(hashes + 1, b'#');
    let start = prefix + hashes + 1;
    let inside = rest[start..].windows(end.len()).position(|window| window == end);
    inside.map_or(rest.len(), |inside| start + inside + end.len())
}

/// A character literal; a lifetime is none.
fn character(rest: &[u8]) -> usize {
    match rest {
        [_, b'\\', _, ..] => until(rest, 3, |at| rest[at] == b'\'') + 1,
        [_, first, ..] => {
            let width = match first {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        _ => 0,
    }
}

/// Whether a word stands in a line of code by itself.
pub fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        !before.chars().next_back().is_some_and(part) && !after.chars().next().is_some_and(part)
    })
}

/// The part of a file before its tests, if those are a module at its end.
pub fn before_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ").map_or(text, |at| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        for (text, expect) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */\nd */ e", "a             \n     e"),
            (r#"f("x\"y", 'z', '\'', '\n')"#, r"f(      ,    ,     ,     )"),
            ("let x: &'a str = r#\"un\"safe\"#;", "let x: &'a str =             ;"),
            ("br\"x\" for_r\"\"", "      for_r  "),
            ("'é' 'a", "     'a"),
            ("\"open", "     "),
        ] {
            assert_eq!(only(text), expect, "{text}");
        }
    }

    #[test]
    fn words_stand_alone() {
        for (line, expect) in [("unsafe {", true), ("unsafe_code", false), ("(unsafe)", true), ("", false)] {
            assert_eq!(has_word(line, "unsafe"), expect, "{line}");
        }
    }
}
