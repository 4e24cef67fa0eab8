//! A template's text to tokens.

use super::TemplateError;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// What stands outside of `{{` and `}}`.
    Text(String),
    /// `{{`.
    Open,
    /// `}}`.
    Close,
    /// A name: a function or a keyword.
    Name(String),
    /// `.name`, at once after what it belongs to if `joined`.
    Field {
        /// The name.
        name: String,
        /// Whether no space is before it.
        joined: bool,
    },
    /// `.` alone.
    Dot,
    /// `$name`; `$` has an empty name.
    Variable(String),
    /// A string.
    Str(String),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// `|`, `(`, `)`, `,`, `=` or `:=`.
    Sign(&'static str),
}

/// A token and the line that it is on.
pub type Placed = (Token, usize);

/// Takes a template apart.
pub fn lex(text: &str) -> Result<Vec<Placed>, TemplateError> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    let mut trim = false;
    while !rest.is_empty() {
        let open = rest.find("{{");
        let mut plain = &rest[..open.unwrap_or(rest.len())];
        let after = open.map(|at| &rest[at + 2..]);
        let trim_before = after.is_some_and(|after| after.starts_with("- "));
        let lines = plain.matches('\n').count();
        plain = if trim { plain.trim_start() } else { plain };
        plain = if trim_before { plain.trim_end() } else { plain };
        if !plain.is_empty() {
            tokens.push((Token::Text(plain.to_owned()), line));
        }
        line += lines;
        let Some(after) = after else { break };
        let inner = if trim_before { &after[1..] } else { after };
        let mut action = Action { rest: inner, line, tokens: &mut tokens };
        trim = action.run()?;
        (rest, line) = (action.rest, action.line);
    }
    Ok(tokens)
}

struct Action<'a, 't> {
    rest: &'a str,
    line: usize,
    tokens: &'t mut Vec<Placed>,
}

impl Action<'_, '_> {
    /// Reads to the closing braces, and says whether white space after them is cut away.
    fn run(&mut self) -> Result<bool, TemplateError> {
        if let Some(comment) = self.rest.trim_start().strip_prefix("/*") {
            let end = comment.find("*/").ok_or_else(|| self.error("unclosed comment"))?;
            self.line += comment[..end].matches('\n').count();
            let after = comment[end + 2..].trim_start();
            let trim = after.starts_with('-');
            let after = after.strip_prefix('-').unwrap_or(after).trim_start();
            self.rest = after.strip_prefix("}}").ok_or_else(|| self.error("comment ends before closing delimiter"))?;
            return Ok(trim);
        }
        self.push(Token::Open);
        loop {
            let before = self.rest;
            self.rest = before.trim_start();
            let space = before.len() > self.rest.len();
            self.line += before[..before.len() - self.rest.len()].matches('\n').count();
            if let Some(after) = self.rest.strip_prefix("}}") {
                self.rest = after;
                self.push(Token::Close);
                return Ok(false);
            }
            if let Some(after) = self.rest.strip_prefix("-}}").filter(|_| space) {
                self.rest = after;
                self.push(Token::Close);
                return Ok(true);
            }
            self.token(space)?;
        }
    }

    fn token(&mut self, space: bool) -> Result<(), TemplateError> {
        let first = self.rest.chars().next().ok_or_else(|| self.error("unclosed action"))?;
        let sign = ["|", "(", ")", ",", ":=", "="].into_iter().find(|sign| self.rest.starts_with(sign));
        if let Some(sign) = sign {
            self.rest = &self.rest[sign.len()..];
            self.push(Token::Sign(sign));
            return Ok(());
        }
        match first {
            '"' => self.quoted(),
            '`' => {
                let inner = &self.rest[1..];
                let end = inner.find('`').ok_or_else(|| self.error("unterminated raw quoted string"))?;
                self.push(Token::Str(inner[..end].to_owned()));
                self.line += inner[..end].matches('\n').count();
                self.rest = &inner[end + 1..];
                Ok(())
            }
            '.' if !self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                self.rest = &self.rest[1..];
                let name = self.word();
                let before = self.tokens.last().map(|(token, _)| token);
                let joined =
                    !space && matches!(before, Some(Token::Field { .. } | Token::Variable(_) | Token::Sign(")")));
                self.push(if name.is_empty() { Token::Dot } else { Token::Field { name, joined } });
                Ok(())
            }
            '$' => {
                self.rest = &self.rest[1..];
                let name = self.word();
                self.push(Token::Variable(name));
                Ok(())
            }
            c if c.is_ascii_digit() || "+-.".contains(c) => self.number(),
            c if c.is_alphabetic() || c == '_' => {
                let name = self.word();
                self.push(Token::Name(name));
                Ok(())
            }
            other => Err(self.error(&format!("unexpected {other:?} in command"))),
        }
    }

    fn word(&mut self) -> String {
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let word = self.rest[..end].to_owned();
        self.rest = &self.rest[end..];
        word
    }

    fn number(&mut self) -> Result<(), TemplateError> {
        let body = |c: char| c.is_ascii_alphanumeric() || ".+-_".contains(c);
        let end = self.rest.find(|c| !body(c)).unwrap_or(self.rest.len());
        let text = &self.rest[..end];
        let token = match (text.parse(), text.parse::<f64>()) {
            (Ok(n), _) => Token::Int(n),
            (Err(_), Ok(n)) if n.is_finite() => Token::Float(n),
            _ => return Err(self.error(&format!("bad number syntax: {text:?}"))),
        };
        self.rest = &self.rest[end..];
        self.push(token);
        Ok(())
    }

    fn quoted(&mut self) -> Result<(), TemplateError> {
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    self.push(Token::Str(out));
                    return Ok(());
                }
                '\n' => break,
                '\\' => out.push(match chars.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, 't')) => '\t',
                    Some((_, 'r')) => '\r',
                    Some((_, same @ ('\\' | '"' | '\''))) => same,
                    _ => return Err(self.error("invalid escape in a string: use \\n, \\t, \\r, \\\\ or \\\"")),
                }),
                other => out.push(other),
            }
        }
        Err(self.error("unterminated quoted string"))
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((token, self.line));
    }

    fn error(&self, why: &str) -> TemplateError {
        TemplateError::new(self.line, why)
    }
}
