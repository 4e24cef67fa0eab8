//! Go's template language, as far as `--format` has it: scripts are full of it.
//!
//! Everything that formats by a template in Docker does here: fields, pipelines, variables, `if`, `range`, `with`, the
//! comparisons, `printf`, and Docker's own functions. Templates by name (`define`, `template`, `block`) are refused.

mod eval;
mod funcs;
mod lex;
mod parse;
#[cfg(test)]
mod tests;
mod value;

pub use value::Value;

/// Deepest nesting of blocks and parentheses.
const MAX_DEPTH: usize = 64;
/// Longest template, in bytes.
const MAX_TEMPLATE: usize = 64 << 10;

/// Why a template cannot be read or carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template parsing error: template: :{line}: {why}")]
pub struct TemplateError {
    /// The line of the template, from 1.
    pub line: usize,
    /// Reason.
    pub why: String,
}

impl TemplateError {
    fn new(line: usize, why: impl Into<String>) -> Self {
        Self { line, why: why.into() }
    }
}

/// A template that was read.
#[derive(Clone, Debug)]
pub struct Template {
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEMPLATE {
            return Err(TemplateError::new(1, format!("it has {} bytes, at most {MAX_TEMPLATE} are read", text.len())));
        }
        Ok(Self { nodes: parse::parse(&lex::lex(text)?)? })
    }

    /// The text for a value.
    pub fn render(&self, dot: &Value) -> Result<String, TemplateError> {
        eval::run(&self.nodes, dot, false)
    }

    /// The text for the titles of a table's columns: functions leave a title as it is.
    pub fn titles(&self, dot: &Value) -> Result<String, TemplateError> {
        eval::run(&self.nodes, dot, true)
    }
}
