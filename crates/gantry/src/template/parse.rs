//! Tokens to a tree.

use super::lex::{Placed, Token};
use super::value::Value;
use super::{MAX_DEPTH, TemplateError};

/// A part of a template.
#[derive(Clone, Debug)]
pub enum Node {
    /// As it stands.
    Text(String),
    /// Prints what a pipeline gives, unless it sets a variable.
    Print(Pipe),
    /// The first branch whose condition is true, else the last.
    If(Vec<(Pipe, Vec<Node>)>, Vec<Node>),
    /// The body with the value as dot, if it is true.
    With(Pipe, Vec<Node>, Vec<Node>),
    /// The body for each element.
    Range(Pipe, Vec<Node>, Vec<Node>),
}

/// Commands, each of which gets the result of the one before as its last argument.
#[derive(Clone, Debug)]
pub struct Pipe {
    pub line: usize,
    /// Variables that are set.
    pub variables: Vec<String>,
    /// Whether they are new.
    pub declares: bool,
    pub commands: Vec<Vec<Operand>>,
}

/// A part of a command.
#[derive(Clone, Debug)]
pub struct Operand {
    pub base: Base,
    /// Fields of it, one of the other.
    pub fields: Vec<String>,
}

impl Operand {
    /// Whether it is the one method that rows have: `.Label "KEY"`.
    pub fn is_label(&self, command: &[Operand]) -> bool {
        command.len() == 2 && self.fields.last().is_some_and(|field| field == "Label")
    }
}

/// What an operand begins with.
#[derive(Clone, Debug)]
pub enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Pipe(Box<Pipe>),
}

/// Reads tokens.
pub fn parse(tokens: &[Placed]) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    let (nodes, end) = parser.nodes()?;
    match end {
        End::Template => Ok(nodes),
        End::Else => Err(parser.error("unexpected {{else}}")),
        End::Block => Err(parser.error("unexpected {{end}}")),
    }
}

/// What a list of nodes ended with.
enum End {
    Template,
    Else,
    Block,
}

struct Parser<'a> {
    tokens: &'a [Placed],
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at).map(|(token, _)| token)
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(_, line)| *line)
    }

    fn error(&self, why: &str) -> TemplateError {
        TemplateError::new(self.line(), why)
    }

    fn name(&self) -> Option<&'a str> {
        match self.peek() {
            Some(Token::Name(name)) => Some(name),
            _ => None,
        }
    }

    fn close(&mut self) -> Result<(), TemplateError> {
        match self.peek() {
            Some(Token::Close) => {
                self.at += 1;
                Ok(())
            }
            Some(other) => Err(self.error(&format!("unexpected {} in command", shown(other)))),
            None => Err(self.error("unclosed action")),
        }
    }

    /// Goes one level deeper; templates come from outside.
    fn deeper(&mut self) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        Ok(())
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        self.deeper()?;
        let mut nodes = Vec::new();
        while let Some(token) = self.peek() {
            self.at += 1;
            if let Token::Text(text) = token {
                nodes.push(Node::Text(text.clone()));
                continue;
            }
            match self.name() {
                Some("end") => {
                    self.at += 1;
                    self.close()?;
                    self.depth -= 1;
                    return Ok((nodes, End::Block));
                }
                // What follows `else` is for the one who asked for these nodes.
                Some("else") => {
                    self.at += 1;
                    self.depth -= 1;
                    return Ok((nodes, End::Else));
                }
                Some(word @ ("if" | "with" | "range")) => {
                    self.at += 1;
                    nodes.push(self.block(word)?);
                }
                Some(word @ ("define" | "template" | "block" | "break" | "continue")) => {
                    return Err(self.error(&format!("{{{{{word}}}}} is not supported")));
                }
                _ => {
                    let pipe = self.pipe()?;
                    self.close()?;
                    nodes.push(Node::Print(pipe));
                }
            }
        }
        self.depth -= 1;
        Ok((nodes, End::Template))
    }

    fn block(&mut self, word: &str) -> Result<Node, TemplateError> {
        let pipe = self.pipe()?;
        self.close()?;
        let (body, end) = self.nodes()?;
        let mut branches = vec![(pipe, body)];
        let otherwise = match end {
            End::Template => return Err(self.error("unexpected EOF: {{end}} is missing")),
            End::Block => Vec::new(),
            End::Else => self.otherwise(word, &mut branches)?,
        };
        if word == "if" {
            return Ok(Node::If(branches, otherwise));
        }
        let (pipe, body) = branches.remove(0);
        Ok(if word == "with" { Node::With(pipe, body, otherwise) } else { Node::Range(pipe, body, otherwise) })
    }

    /// What stands after `else`, which is read: more branches of an `if`, and the last part.
    fn otherwise(&mut self, word: &str, branches: &mut Vec<(Pipe, Vec<Node>)>) -> Result<Vec<Node>, TemplateError> {
        while word == "if" && self.name() == Some("if") {
            self.at += 1;
            let pipe = self.pipe()?;
            self.close()?;
            let (body, end) = self.nodes()?;
            branches.push((pipe, body));
            match end {
                End::Template => return Err(self.error("unexpected EOF: {{end}} is missing")),
                End::Block => return Ok(Vec::new()),
                End::Else => {}
            }
        }
        self.close()?;
        match self.nodes()? {
            (nodes, End::Block) => Ok(nodes),
            _ => Err(self.error("expected {{end}}")),
        }
    }

    fn pipe(&mut self) -> Result<Pipe, TemplateError> {
        self.deeper()?;
        let line = self.line();
        let (variables, declares) = self.variables();
        let mut commands = vec![self.command()?];
        while self.peek() == Some(&Token::Sign("|")) {
            self.at += 1;
            commands.push(self.command()?);
        }
        self.depth -= 1;
        Ok(Pipe { line, variables, declares, commands })
    }

    /// `$a :=`, `$a, $b :=` or `$a =` at the start of a pipeline.
    fn variables(&mut self) -> (Vec<String>, bool) {
        let ahead = |n: usize| self.tokens.get(self.at + n).map(|(token, _)| token);
        let sign = |n: usize| match ahead(n) {
            Some(Token::Sign(sign @ (":=" | "=" | ","))) => *sign,
            _ => "",
        };
        let name = |n: usize| match ahead(n) {
            Some(Token::Variable(name)) => Some(name.clone()),
            _ => None,
        };
        let found = match (name(0), sign(1), name(2), sign(3)) {
            (Some(a), ",", Some(b), set @ (":=" | "=")) => (vec![a, b], set, 4),
            (Some(a), set @ (":=" | "="), _, _) => (vec![a], set, 2),
            _ => return (Vec::new(), false),
        };
        self.at += found.2;
        (found.0, found.1 == ":=")
    }

    fn command(&mut self) -> Result<Vec<Operand>, TemplateError> {
        let mut operands = Vec::new();
        while let Some(operand) = self.operand()? {
            operands.push(operand);
        }
        match operands.first() {
            None => Err(self.error("missing value for command")),
            Some(first)
                if operands.len() > 1 && !matches!(first.base, Base::Function(_)) && !first.is_label(&operands) =>
            {
                Err(self.error("can't give arguments to what is no function"))
            }
            Some(_) => Ok(operands),
        }
    }

    fn operand(&mut self) -> Result<Option<Operand>, TemplateError> {
        let base = match self.peek() {
            Some(Token::Dot) => Base::Dot,
            Some(Token::Field { name, .. }) => {
                self.at += 1;
                let fields = self.fields(vec![name.clone()]);
                return Ok(Some(Operand { base: Base::Dot, fields }));
            }
            Some(Token::Variable(name)) => Base::Variable(name.clone()),
            Some(Token::Str(text)) => Base::Literal(Value::Text(text.clone())),
            Some(Token::Int(n)) => Base::Literal(Value::Int(*n)),
            Some(Token::Float(n)) => Base::Literal(Value::Float(*n)),
            Some(Token::Name(name)) => match name.as_str() {
                "true" => Base::Literal(Value::Bool(true)),
                "false" => Base::Literal(Value::Bool(false)),
                "nil" => Base::Literal(Value::Null),
                name if super::funcs::known(name) => Base::Function(name.to_owned()),
                other => return Err(self.error(&format!("function {other:?} not defined"))),
            },
            Some(Token::Sign("(")) => {
                self.at += 1;
                let pipe = self.pipe()?;
                if self.peek() != Some(&Token::Sign(")")) {
                    return Err(self.error("unclosed left paren"));
                }
                Base::Pipe(Box::new(pipe))
            }
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(Operand { base, fields: self.fields(Vec::new()) }))
    }

    /// Fields that follow without a space.
    fn fields(&mut self, mut fields: Vec<String>) -> Vec<String> {
        while let Some(Token::Field { name, joined: true }) = self.peek() {
            fields.push(name.clone());
            self.at += 1;
        }
        fields
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Text(_) => "text".to_owned(),
        Token::Open => "\"{{\"".to_owned(),
        Token::Close => "\"}}\"".to_owned(),
        Token::Name(name) => format!("{name:?}"),
        Token::Field { name, .. } => format!("\".{name}\""),
        Token::Dot => "\".\"".to_owned(),
        Token::Variable(name) => format!("\"${name}\""),
        Token::Str(text) => format!("{text:?}"),
        Token::Int(n) => format!("\"{n}\""),
        Token::Float(n) => format!("\"{n}\""),
        Token::Sign(sign) => format!("{sign:?}"),
    }
}
