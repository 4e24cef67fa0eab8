//! `top`, `diff` and `port`: small looks at one container.

use crate::cli::container::{Name, Port, Top};
use crate::client::{Request, Target};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::render::{containers, table};
use crate::template::Value;
use crate::terminal;

/// Shows the processes of a container.
pub fn top(context: &Context, args: &Top) -> Outcome {
    let [name, options @ ..] = args.command.as_slice() else { return Ok(()) };
    let target = Target::new(&["containers", name, "top"]);
    let target = if options.is_empty() { target } else { target.with("ps_args", &options.join(" ")) };
    context.ask(async |client| {
        let found = client.json(Request::get(target)).await?;
        let line = |cells: &[Value]| cells.iter().map(ToString::to_string).collect::<Vec<_>>().join("\t");
        let mut text = line(found.list("Titles")) + "\n";
        for process in found.list("Processes") {
            text = text + &line(process.items()) + "\n";
        }
        terminal::print(&table::spread(&text, 20, 1))
    })
}

/// Shows which files of a container differ from its image.
pub fn diff(context: &Context, args: &Name) -> Outcome {
    if args.name.is_empty() {
        return Err(Failure::Usage("the name of a container cannot be empty".to_owned()));
    }
    context.ask(async |client| {
        let found = client.json(Request::get(Target::new(&["containers", &args.name, "changes"]))).await?;
        let text = found.items().iter().fold(String::new(), |out, change| {
            let letter = match change.int("Kind") {
                0 => 'C',
                1 => 'A',
                _ => 'D',
            };
            out + &format!("{letter} {}\n", table::printable(change.text("Path")))
        });
        terminal::print(&text)
    })
}

/// Shows the published ports of a container.
pub fn port(context: &Context, args: &Port) -> Outcome {
    let one = args.port.as_deref().map(one_port).transpose()?;
    context.ask(async |client| {
        let found = client.json(Request::get(Target::new(&["containers", &args.name, "json"]))).await?;
        let lines = containers::published(found.at(&["NetworkSettings", "Ports"]), one.as_deref());
        if lines.is_empty() && args.port.is_some() {
            let asked = args.port.as_deref().unwrap_or_default();
            return Err(Failure::new(format!("no public port '{asked}' published for {}", args.name)));
        }
        terminal::print(&lines.iter().fold(String::new(), |out, line| out + line + "\n"))
    })
}

/// `80` or `80/udp`, with its protocol.
fn one_port(text: &str) -> Outcome<String> {
    let (port, protocol) = text.split_once('/').filter(|(_, protocol)| !protocol.is_empty()).unwrap_or((text, "tcp"));
    let port = port.trim_end_matches('/');
    match port.parse::<u16>() {
        Ok(_) => Ok(format!("{port}/{protocol}")),
        Err(error) => Err(Failure::new(format!("invalid port ({port}): {error}"))),
    }
}
