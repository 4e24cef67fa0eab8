//! The text form of numbers that Prometheus reads, version 0.0.4.

use std::fmt::Write as _;

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by class.
    Histogram,
}

/// The text so far.
#[derive(Debug, Default)]
pub struct Text(pub String);

impl Text {
    /// Begins a family.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a text does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a number of the family.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{}\"", escaped(text));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }
}

/// The value of a label: whatever a name holds, it ends nothing.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let mut text = Text::default();
        text.family("a_total", Kind::Counter, "How often.");
        text.sample("a_total", &[], 3.0);
        text.sample("a_total", &[("x", "1"), ("y", "a\"b\\c\nd")], 0.25);
        text.sample("a_total", &[], 17_179_869_184.0);
        let expect = "# HELP a_total How often.\n# TYPE a_total counter\na_total 3\na_total{x=\"1\",y=\"a\\\"b\\\\c\\nd\"} 0.25\n\
                      a_total 17179869184\n";
        assert_eq!(text.0, expect);
    }
}
