//! Listings, in each of the forms that `--format` asks for.

use crate::render::table;
use crate::template::{Template, TemplateError, Value};

/// What a listing can show, and shows by default.
#[derive(Clone, Copy, Debug)]
pub struct Listing {
    /// The columns by default, as a template.
    pub table: &'static str,
    /// The name of each field, and its column's title.
    pub titles: &'static [(&'static str, &'static str)],
}

/// How a listing is printed.
#[derive(Clone, Debug)]
pub enum Form {
    /// In columns under titles.
    Table(Template),
    /// A JSON object a line.
    Json,
    /// One after the other.
    Lines(Template),
}

impl Listing {
    /// What `--format` asks for: nothing, `table`, `table TEMPLATE`, `json` or a template.
    pub fn form(&self, asked: Option<&str>) -> Result<Form, TemplateError> {
        let parse = |text: &str| Template::parse(&text.replace("\\t", "\t").replace("\\n", "\n"));
        match asked.map(str::trim) {
            None | Some("" | "table") => parse(self.table).map(Form::Table),
            Some("json" | "{{json .}}" | "{{ json . }}") => Ok(Form::Json),
            Some(text) => match text.strip_prefix("table").filter(|rest| rest.starts_with([' ', '\t', '\\', '{'])) {
                Some(rest) => parse(rest.trim_start_matches([' ', '\t'])).map(Form::Table),
                None => parse(asked.unwrap_or_default()).map(Form::Lines),
            },
        }
    }

    /// The text of a listing. A table on a terminal is as wide as that at most.
    pub fn render(&self, form: &Form, rows: &[Value], width: Option<usize>) -> Result<String, TemplateError> {
        match form {
            Form::Json => Ok(json_lines(rows)),
            Form::Lines(template) => {
                rows.iter().try_fold(String::new(), |out, row| Ok(out + &template.render(row)? + "\n"))
            }
            Form::Table(template) => {
                let titles = self.titles.iter().map(|(name, title)| (*name, Value::Text((*title).to_owned())));
                let mut text = template.titles(&Value::row(titles))? + "\n";
                for row in rows {
                    text.push_str(&template.render(row)?.replace('\n', " "));
                    text.push('\n');
                }
                Ok(table::columns(&text, width))
            }
        }
    }
}

/// The name under which a row has its labels, for `{{.Label "KEY"}}`. It is shown nowhere else.
const LABEL: &str = "Label";

/// A JSON object a line, its keys sorted and its signs escaped as Docker's are.
fn json_lines(rows: &[Value]) -> String {
    rows.iter().fold(String::new(), |out, row| {
        let sorted = match row {
            Value::Map(entries) => {
                Value::Map(Value::sorted(entries).into_iter().filter(|(name, _)| name != LABEL).cloned().collect())
            }
            other => other.clone(),
        };
        let text = serde_json::to_string(&sorted).unwrap_or_default();
        // In JSON these signs stand in texts alone.
        let text = text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        out + &text + "\n"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: Listing =
        Listing { table: "table {{.Name}}\t{{.Size}}", titles: &[("Name", "NAME"), ("Size", "SIZE"), ("Tag", "TAG")] };

    fn row(name: &str, size: &str, tag: &str) -> Value {
        Value::row([("Name", name), ("Size", size), ("Tag", tag)].map(|(n, v)| (n, Value::Text(v.to_owned()))))
    }

    #[test]
    fn forms() {
        let rows = [row("alpine", "8MB", "1"), row("a\nb", "1GB", "")];
        let check = |asked: Option<&str>, expect: &str| {
            let listing = Listing { table: "{{.Name}}\t{{.Size}}", ..LISTING };
            let got = listing.form(asked).and_then(|form| listing.render(&form, &rows, None));
            assert_eq!(got.unwrap_or_else(|error| format!("!{error}")), expect, "{asked:?}");
        };
        check(None, "NAME      SIZE\nalpine    8MB\na b       1GB\n");
        check(Some("table"), "NAME      SIZE\nalpine    8MB\na b       1GB\n");
        check(Some("table {{.Tag}}\\t{{upper .Name}}"), "TAG       NAME\n1         ALPINE\n          A B\n");
        check(Some("{{.Name}}:{{.Tag}}"), "alpine:1\na\nb:\n");
        check(
            Some("json"),
            "{\"Name\":\"alpine\",\"Size\":\"8MB\",\"Tag\":\"1\"}\n{\"Name\":\"a\\nb\",\"Size\":\"1GB\",\"Tag\":\"\"}\n",
        );
        check(
            Some("{{json .}}"),
            "{\"Name\":\"alpine\",\"Size\":\"8MB\",\"Tag\":\"1\"}\n{\"Name\":\"a\\nb\",\"Size\":\"1GB\",\"Tag\":\"\"}\n",
        );
        check(
            Some("{{.Nam}}"),
            "!template parsing error: template: :1: can't evaluate field Nam: there are Name, Size, Tag",
        );
        check(
            Some("table {{.Nam}}"),
            "!template parsing error: template: :1: can't evaluate field Nam: there are Name, Size, Tag",
        );
    }
}
