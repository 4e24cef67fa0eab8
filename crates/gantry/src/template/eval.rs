//! Carries a template out.

use super::TemplateError;
use super::funcs;
use super::parse::{Base, Node, Operand, Pipe};
use super::value::Value;

/// The longest text that a template gives, in bytes.
const MAX_OUTPUT: usize = 64 << 20;

/// The text of a template for a value. With `titles`, functions leave texts as they are.
pub fn run(nodes: &[Node], dot: &Value, titles: bool) -> Result<String, TemplateError> {
    let mut run = Run { out: String::new(), variables: vec![(String::new(), dot.clone())], titles };
    run.nodes(nodes, dot)?;
    Ok(run.out)
}

/// Fields that documents of the API leave out where they have no value: they are known, and empty.
const OMITTED: [&str; 27] = [
    "Annotations",
    "ArgsEscaped",
    "AuxiliaryAddresses",
    "BindOptions",
    "ClusterVolume",
    "ConfigFrom",
    "ExposedPorts",
    "Health",
    "Healthcheck",
    "Init",
    "Mounts",
    "NetworkDisabled",
    "Node",
    "OnBuild",
    "Peers",
    "Services",
    "Shell",
    "SizeRootFs",
    "SizeRw",
    "StopTimeout",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "UsageData",
    "VirtualSize",
    "VolumeOptions",
    "Warnings",
];
/// Those of them that are texts.
const OMITTED_TEXTS: [&str; 16] = [
    "Author",
    "Comment",
    "Container",
    "CreatedAt",
    "Driver",
    "Gateway",
    "IPRange",
    "MacAddress",
    "Name",
    "OsVersion",
    "Parent",
    "Runtime",
    "Source",
    "StopSignal",
    "Subnet",
    "Variant",
];

struct Run {
    out: String,
    /// The last of a name counts. `$` is the value that the template began with.
    variables: Vec<(String, Value)>,
    titles: bool,
}

impl Run {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        let outer = self.variables.len();
        for node in nodes {
            self.node(node, dot)?;
        }
        self.variables.truncate(outer);
        Ok(())
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<(), TemplateError> {
        let outer = self.variables.len();
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipe) => {
                let value = self.pipe(pipe, dot)?;
                // A variable that is set here lives to the end of the block.
                if pipe.variables.is_empty() {
                    self.out.push_str(&value.to_string());
                }
                if self.out.len() > MAX_OUTPUT {
                    return Err(TemplateError::new(pipe.line, "the output is too long"));
                }
                return Ok(());
            }
            Node::If(branches, otherwise) => {
                let mut chosen = otherwise;
                for (condition, body) in branches {
                    if self.pipe(condition, dot)?.truth() {
                        chosen = body;
                        break;
                    }
                }
                self.nodes(chosen, dot)?;
            }
            Node::With(pipe, body, otherwise) => {
                let value = self.pipe(pipe, dot)?;
                if value.truth() { self.nodes(body, &value)? } else { self.nodes(otherwise, dot)? }
            }
            Node::Range(pipe, body, otherwise) => self.range(pipe, body, otherwise, dot)?,
        }
        self.variables.truncate(outer);
        Ok(())
    }

    fn range(&mut self, pipe: &Pipe, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<(), TemplateError> {
        // The variables are of the elements, so the pipeline itself sets none.
        let value = self.commands(pipe, dot)?;
        let elements: Vec<(Value, Value)> = match value {
            Value::Null => Vec::new(),
            Value::List(items) => items.into_iter().enumerate().map(|(i, item)| (Value::Int(i as i64), item)).collect(),
            Value::Map(entries) => Value::sorted(&entries)
                .into_iter()
                .map(|(key, value)| (Value::Text(key.clone()), value.clone()))
                .collect(),
            other => {
                let why = format!("range can't iterate over {} ({})", other, other.kind());
                return Err(TemplateError::new(pipe.line, why));
            }
        };
        if elements.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, element) in elements {
            let outer = self.variables.len();
            match &pipe.variables[..] {
                [one] => self.set(pipe, one, element.clone())?,
                [first, second] => {
                    self.set(pipe, first, key)?;
                    self.set(pipe, second, element.clone())?;
                }
                _ => {}
            }
            self.nodes(body, &element)?;
            self.variables.truncate(outer);
        }
        Ok(())
    }

    fn set(&mut self, pipe: &Pipe, name: &str, value: Value) -> Result<(), TemplateError> {
        if pipe.declares {
            self.variables.push((name.to_owned(), value));
            return Ok(());
        }
        let found = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        let (_, slot) = found.ok_or_else(|| undefined(pipe.line, name))?;
        *slot = value;
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, TemplateError> {
        let value = self.commands(pipe, dot)?;
        match &pipe.variables[..] {
            [] => {}
            [one] => self.set(pipe, one, value.clone())?,
            _ => return Err(TemplateError::new(pipe.line, "two variables are for range alone")),
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, TemplateError> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, last, dot, pipe.line)?);
        }
        Ok(last.unwrap_or_default())
    }

    fn command(
        &mut self,
        command: &[Operand],
        last: Option<Value>,
        dot: &Value,
        line: usize,
    ) -> Result<Value, TemplateError> {
        let Some((first, rest)) = command.split_first() else { return Ok(Value::Null) };
        let Base::Function(name) = &first.base else {
            if first.is_label(command) && last.is_none() {
                return self.label(first, &rest[0], dot, line);
            }
            if last.is_some() {
                return Err(TemplateError::new(line, "can't give arguments to what is no function"));
            }
            return self.operand(first, dot, line);
        };
        let mut args = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            let value = self.operand(operand, dot, line)?;
            // `and` and `or` look no further than they must.
            let decided = (name == "and" && !value.truth()) || (name == "or" && value.truth());
            if decided {
                return Ok(value);
            }
            args.push(value);
        }
        args.extend(last);
        let value = funcs::call(name, args, self.titles)
            .map_err(|why| TemplateError::new(line, format!("error calling {name}: {why}")))?;
        fields(value, &first.fields, line)
    }

    /// What a row has as a label; for titles, the end of the label's name in words.
    fn label(&mut self, of: &Operand, key: &Operand, dot: &Value, line: usize) -> Result<Value, TemplateError> {
        let key = self.operand(key, dot, line)?.to_string();
        if self.titles {
            let end = key.rsplit('.').next().unwrap_or(&key);
            return Ok(Value::Text(end.replace(['-', '_'], " ")));
        }
        let labels = self.operand(of, dot, line)?;
        Ok(labels.get(&key).cloned().unwrap_or(Value::Text(String::new())))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value, line: usize) -> Result<Value, TemplateError> {
        let base = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Literal(value) => value.clone(),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone()).ok_or_else(|| undefined(line, name))?
            }
            Base::Pipe(pipe) => self.pipe(pipe, dot)?,
            Base::Function(name) => funcs::call(name, Vec::new(), self.titles)
                .map_err(|why| TemplateError::new(line, format!("error calling {name}: {why}")))?,
        };
        fields(base, &operand.fields, line)
    }
}

fn undefined(line: usize, name: &str) -> TemplateError {
    TemplateError::new(line, format!("undefined variable \"${name}\""))
}

/// A field of a field of a value.
///
/// A document's fields are known, and one that is not there is a mistake in the template. Labels and the like have any
/// key, and one that is not there has no value. Fields begin with an upper-case letter, labels hardly ever do.
fn fields(mut value: Value, names: &[String], line: usize) -> Result<Value, TemplateError> {
    for name in names {
        value = match value {
            Value::Null => Value::Null,
            Value::Map(mut entries) => match entries.iter().position(|(key, _)| key == name) {
                Some(at) => entries.swap_remove(at).1,
                None if entries.iter().all(|(key, _)| !key.starts_with(|c: char| c.is_ascii_uppercase())) => {
                    Value::Null
                }
                None if OMITTED.contains(&name.as_str()) => Value::Null,
                None if OMITTED_TEXTS.contains(&name.as_str()) => Value::Text(String::new()),
                None => {
                    let known: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
                    let why = format!("can't evaluate field {name}: there are {}", known.join(", "));
                    return Err(TemplateError::new(line, why));
                }
            },
            other => {
                let why = format!("can't evaluate field {name} in {}", other.kind());
                return Err(TemplateError::new(line, why));
            }
        };
    }
    Ok(value)
}
