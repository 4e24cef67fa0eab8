//! The body of `/commit`: a configuration, of which what is said replaces what the container has. Pure.

use serde_json::Value;

/// The same in the words of a Dockerfile, which is how changes are asked for.
pub(crate) fn changes_of(config: &Value) -> Vec<String> {
    let mut changes = Vec::new();
    for (key, word) in [("User", "USER"), ("WorkingDir", "WORKDIR"), ("StopSignal", "STOPSIGNAL")] {
        if let Some(text) = config[key].as_str().filter(|text| !text.is_empty()) {
            changes.push(format!("{word} {text}"));
        }
    }
    for (key, word) in [("Cmd", "CMD"), ("Entrypoint", "ENTRYPOINT"), ("Shell", "SHELL")] {
        if config[key].as_array().is_some_and(|list| !list.is_empty()) {
            changes.push(format!("{word} {}", config[key]));
        }
    }
    for text in texts(&config["OnBuild"]) {
        changes.push(format!("ONBUILD {text}"));
    }
    for (name, value) in texts(&config["Env"]).filter_map(|text| text.split_once('=')) {
        changes.push(format!("ENV {name}={}", escaped(value)));
    }
    for (name, value) in config["Labels"].as_object().into_iter().flatten() {
        changes.push(format!("LABEL {name}={}", escaped(value.as_str().unwrap_or_default())));
    }
    for port in config["ExposedPorts"].as_object().into_iter().flat_map(|ports| ports.keys()) {
        changes.push(format!("EXPOSE {port}"));
    }
    for place in config["Volumes"].as_object().into_iter().flat_map(|places| places.keys()) {
        changes.push(format!("VOLUME {}", Value::from(vec![place.clone()])));
    }
    changes.extend(health(&config["Healthcheck"]));
    changes
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A value with nothing in it that would end it.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_whitespace() || matches!(c, '\\' | '\'' | '"') {
            text.push('\\');
        }
        text.push(c);
    }
    if text.is_empty() { "\"\"".to_owned() } else { text }
}

fn health(check: &Value) -> Option<String> {
    let test: Vec<&str> = texts(&check["Test"]).collect();
    let mut change = "HEALTHCHECK".to_owned();
    for (key, option) in [
        ("Interval", "interval"),
        ("Timeout", "timeout"),
        ("StartPeriod", "start-period"),
        ("StartInterval", "start-interval"),
    ] {
        if let Some(span) = check[key].as_i64().filter(|span| *span > 0) {
            change.extend([" --", option, "=", &span.to_string(), "ns"]);
        }
    }
    if let Some(retries) = check["Retries"].as_i64().filter(|retries| *retries > 0) {
        change.extend([" --retries=", &retries.to_string()]);
    }
    match test.as_slice() {
        ["NONE", ..] => Some("HEALTHCHECK NONE".to_owned()),
        ["CMD", words @ ..] => Some(format!("{change} CMD {}", Value::from(words.to_vec()))),
        ["CMD-SHELL", line] => Some(format!("{change} CMD {line}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations() {
        let check = |config: &str, expect: &[&str]| {
            assert_eq!(changes_of(&serde_json::from_str(config).unwrap()), expect, "{config}");
        };
        check("null", &[]);
        check(r#"{"Cmd":null,"Env":[],"User":"","Labels":{}}"#, &[]);
        check(r#"{"Cmd":["a","b c"],"Entrypoint":[]}"#, &[r#"CMD ["a","b c"]"#]);
        check(r#"{"User":"1:2","WorkingDir":"/x"}"#, &["USER 1:2", "WORKDIR /x"]);
        check(r#"{"Env":["A=b c","B=","C"]}"#, &["ENV A=b\\ c", "ENV B=\"\""]);
        check(r#"{"Labels":{"a":"it's"}}"#, &["LABEL a=it\\'s"]);
        check(r#"{"ExposedPorts":{"80/tcp":{}},"Volumes":{"/a b":{}}}"#, &["EXPOSE 80/tcp", r#"VOLUME ["/a b"]"#]);
        check(r#"{"OnBuild":["RUN x"]}"#, &["ONBUILD RUN x"]);
        check(
            r#"{"Healthcheck":{"Test":["CMD","x"],"Interval":5000000,"Retries":2}}"#,
            &[r#"HEALTHCHECK --interval=5000000ns --retries=2 CMD ["x"]"#],
        );
        check(r#"{"Healthcheck":{"Test":["NONE"]}}"#, &["HEALTHCHECK NONE"]);
    }
}
