//! The `WWW-Authenticate` header (RFC 9110, 11.6.1), as registries write it and as they mangle it.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// The most of one header that is read, in bytes.
const MAX_HEADER: usize = 8 << 10;
/// The most headers, challenges in one, and parameters in a challenge.
const MAX_PARTS: usize = 32;

/// One challenge: a scheme in lower case, and its parameters with names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) scheme: String,
    pub(crate) parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The first parameter of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// All challenges of an answer. What is not understood is left out.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).into_iter().take(MAX_PARTS);
    values.filter_map(|value| std::str::from_utf8(value.as_bytes()).ok()).flat_map(parse).collect()
}

/// The challenges of one header.
pub(crate) fn parse(text: &str) -> Vec<Challenge> {
    let mut reader = Reader { rest: if text.len() > MAX_HEADER { "" } else { text } };
    let mut found: Vec<Challenge> = vec![];
    while found.len() <= MAX_PARTS && reader.skip_to_word() {
        let word = reader.token();
        reader.blanks();
        // A word with `=` is a parameter of the challenge before it; without, it begins a challenge.
        match (reader.rest.strip_prefix('='), found.last_mut()) {
            (Some(rest), Some(challenge)) if !rest.starts_with('=') => {
                reader.rest = rest;
                reader.blanks();
                let value = reader.value();
                if challenge.parameters.len() < MAX_PARTS {
                    challenge.parameters.push((word.to_ascii_lowercase(), value));
                }
            }
            // Padding of a token68, which no scheme that is known here has.
            (Some(_), _) => reader.rest = reader.rest.trim_start_matches('='),
            (None, _) => found.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: vec![] }),
        }
    }
    found
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    /// Goes to the next token; false at the end.
    fn skip_to_word(&mut self) -> bool {
        self.rest = self.rest.trim_start_matches(|c: char| !is_token(c));
        !self.rest.is_empty()
    }

    fn token(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| !is_token(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// A quoted string, or what stands there up to a comma or a blank: some registries quote nothing.
    fn value(&mut self) -> String {
        let Some(quoted) = self.rest.strip_prefix('"') else {
            let end = self.rest.find([',', ' ', '\t']).unwrap_or(self.rest.len());
            let (value, rest) = self.rest.split_at(end);
            self.rest = rest;
            return value.to_owned();
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    self.rest = &quoted[at + 1..];
                    return value;
                }
                '\\' => value.extend(characters.next().map(|(_, c)| c)),
                c => value.push(c),
            }
        }
        self.rest = "";
        value
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        let one = |c: Challenge| {
            let parameters: Vec<_> = c.parameters.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("{}({})", c.scheme, parameters.join("; "))
        };
        parse(text).into_iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn headers() {
        let check = |text: &str, expect: &str| assert_eq!(show(text), expect, "{text}");
        check(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
            "bearer(realm=https://auth.docker.io/token; service=registry.docker.io; scope=repository:a/b:pull,push)",
        );
        check("Basic realm=\"a \\\"b\\\" c\"", "basic(realm=a \"b\" c)");
        check("BASIC Realm=x", "basic(realm=x)");
        check("bearer realm = \"x\" , service = y", "bearer(realm=x; service=y)");
        check("Bearer realm=https://h.test/t?a=b,service=s", "bearer(realm=https://h.test/t?a=b; service=s)");
        check("Basic realm=\"a\", Bearer realm=\"b\"", "basic(realm=a) bearer(realm=b)");
        check("Negotiate, Basic realm=\"a\"", "negotiate() basic(realm=a)");
        check("Negotiate YWJj==, Basic realm=a", "negotiate() basic(realm=a)");
        check("Basic", "basic()");
        check(",,, ,Bearer ,,realm=\"x\",,", "bearer(realm=x)");
        check("Bearer realm=\"x\",error=\"invalid_token\"", "bearer(realm=x; error=invalid_token)");
    }

    #[test]
    fn nonsense_is_survived() {
        let check = |text: &str, expect: &str| assert_eq!(show(text), expect, "{text}");
        check("", "");
        check("  ", "");
        check("\"", "");
        check("=", "");
        check("realm=\"x\"", "x()");
        check("Bearer realm=\"never closed", "bearer(realm=never closed)");
        check("Bearer realm=\"ends in \\", "bearer(realm=ends in )");
        check("Bearer realm=", "bearer(realm=)");
        check("Bearer realm=,service=", "bearer(realm=; service=)");
        check("Bearer é=\"ü\"", "bearer()");
        check("Bearer realm==x", "bearer() x()");
        check(&"a".repeat(MAX_HEADER + 1), "");
    }

    #[test]
    fn size_is_bounded() {
        assert!(parse(&"x, ".repeat(2000)).len() <= MAX_PARTS + 1);
        assert_eq!(parse(&format!("x {}", "a=b, ".repeat(1000)))[0].parameters.len(), MAX_PARTS);
    }

    /// Every prefix and every single damage of a good header is read without a panic.
    #[test]
    fn damaged_headers() {
        let good = r#"Basic realm="a", Bearer realm="https://h.test/t",service="s\"x",scope="repository:a:pull""#;
        for end in 0..=good.len() {
            parse(&good[..end]);
            for damage in ["\"", "\\", "=", ",", " ", "é", "\0"] {
                let mut text = good.to_owned();
                if end < good.len() {
                    text.replace_range(end..=end, damage);
                }
                assert!(parse(&text).len() < 20);
            }
        }
    }
}
