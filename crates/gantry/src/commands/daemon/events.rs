//! `events`.

use crate::cli::system::Events;
use crate::client::lines::Lines;
use crate::client::{Request, Target};
use crate::commands::daemon::filters;
use crate::context::{self, Context};
use crate::failure::{Failure, Outcome};
use crate::render::{table, units};
use crate::template::{Template, Value};
use crate::terminal;
use crate::times;

/// Shows what happens, as it happens.
pub fn run(context: &Context, args: &Events) -> Outcome {
    let template = match args.format.as_deref() {
        None | Some("") => None,
        Some("json") => Some(Template::parse("{{json .}}")?),
        Some(format) => Some(Template::parse(format)?),
    };
    let time = |text: &Option<String>| match text {
        Some(text) => times::stamp(text, context::now_in_nanoseconds()).map(Some).map_err(Failure::Usage),
        None => Ok(None),
    };
    let target = Target::new(&["events"])
        .maybe("since", time(&args.since)?.as_deref())
        .maybe("until", time(&args.until)?.as_deref())
        .maybe("filters", filters::encode(&args.filter)?.as_deref());
    context.ask(async |client| {
        let mut events = Lines::of(client.call(Request::get(target)).await?);
        while let Some(event) = events.next().await? {
            let text = match &template {
                Some(template) => template.render(&event)? + "\n",
                None => line(&event),
            };
            terminal::print(&text)?;
        }
        Ok(())
    })
}

/// A line: when, what kind of thing, what happened, to which, and what is known of it.
fn line(event: &Value) -> String {
    let nanoseconds = match (event.int("timeNano"), event.int("time")) {
        (0, seconds) => i128::from(seconds) * 1_000_000_000,
        (nanoseconds, _) => i128::from(nanoseconds),
    };
    let actor = event.at(&["Actor"]);
    let attributes = Value::sorted(actor.at(&["Attributes"]).entries());
    let attributes: Vec<String> = attributes.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let attributes = if attributes.is_empty() { String::new() } else { format!(" ({})", attributes.join(", ")) };
    let text = format!("{} {} {}{attributes}", event.text("Type"), event.text("Action"), actor.text("ID"));
    let when = if nanoseconds == 0 { String::new() } else { units::stamp(nanoseconds) + " " };
    format!("{when}{}\n", table::printable(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |text: &str, expect: &str| assert_eq!(line(&serde_json::from_str(text).unwrap()), expect);
        check(
            r#"{"Type":"container","Action":"start","Actor":{"ID":"ab","Attributes":{"name":"x","image":"y"}},"time":1,"timeNano":1136214245000000001}"#,
            "2006-01-02T15:04:05.000000001Z container start ab (image=y, name=x)\n",
        );
        check(
            r#"{"Type":"daemon","Action":"reload","Actor":{"ID":"a\u001b"},"time":1}"#,
            "1970-01-01T00:00:01.000000000Z daemon reload a?\n",
        );
    }
}
