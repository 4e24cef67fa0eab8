//! `exec`.

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::json;

use super::run::{status_of, with_outside};
use super::session::{End, Session, asked_keys, check_terminal, leaving};
use super::signals::{Ears, Proxy, Sized, first_size};
use crate::cli::container::Exec;
use crate::client::{Client, Request, Target};
use crate::context::Context;
use crate::create::pairs;
use crate::failure::{Failure, Outcome, clean};
use crate::terminal;

/// How long a command may take to end whose output has ended.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs a command in a container.
pub fn run(context: &Context, args: &Exec) -> Outcome {
    let environment =
        with_outside(|outside| pairs::environment(&args.env_file, &args.env, outside)).map_err(Failure::new)?;
    context.ask(async |client| exec(client, args, &environment).await)
}

async fn exec(client: &Client, args: &Exec, environment: &[String]) -> Outcome {
    let [container, command @ ..] = args.command.as_slice() else { return Ok(()) };
    let input = args.interactive && !args.detach;
    if let Err(failure) = check_terminal(input, args.tty && !args.detach) {
        // That there is no such container is the more useful thing to say.
        client.bytes(Request::get(Target::new(&["containers", container, "json"]))).await?;
        return Err(failure);
    }
    let keys = asked_keys(args.detach_keys.as_deref());
    let size = terminal::size().filter(|_| args.tty).map(|(rows, columns)| json!([rows, columns]));
    let body = json!({
        "User": args.user.as_deref().unwrap_or_default(),
        "Privileged": args.privileged,
        "Tty": args.tty,
        "ConsoleSize": size,
        "AttachStdin": input,
        "AttachStdout": !args.detach,
        "AttachStderr": !args.detach,
        "Detach": args.detach,
        "DetachKeys": keys.as_deref().unwrap_or_default(),
        "Env": if environment.is_empty() { serde_json::Value::Null } else { json!(environment) },
        "WorkingDir": args.workdir.as_deref().unwrap_or_default(),
        "Cmd": command,
    });
    let made = client.json(Request::post(Target::new(&["containers", container, "exec"])).json(&body)).await?;
    let id = made.text("Id").to_owned();
    let start = Request::post(Target::new(&["exec", &id, "start"]))
        .json(&json!({"Detach": args.detach, "Tty": args.tty, "ConsoleSize": size}));
    if args.detach {
        return client.bytes(start).await.map(drop).map_err(not_run);
    }
    let sized = (args.tty && std::io::stdin().is_terminal()).then(|| Sized::Exec(id.clone()));
    let ears = Ears::open(Proxy { container: None, sized: sized.clone(), raw: args.tty && input })?;
    let connection = client.hijack(start).await.map_err(not_run)?;
    let session = Session { input, output: true, terminal: args.tty, keys: leaving(keys.as_deref()) };
    let stay = async {
        let size = async {
            if let Some(sized) = &sized {
                first_size(client, sized).await;
            }
        };
        let (end, ()) = tokio::join!(session.run(connection), size);
        match end? {
            End::Left => Err(Failure::new("read escape sequence")),
            End::Over => status(client, &id).await,
        }
    };
    tokio::select! {
        outcome = stay => outcome,
        outcome = ears.serve(client) => outcome,
    }
}

/// A command that is not there, or cannot be run, ends with the status that shells have for it.
fn not_run(failure: Failure) -> Failure {
    match (&failure, status_of(&failure.text())) {
        (Failure::Daemon { .. }, status @ (126 | 127)) => {
            terminal::tell(&clean(&format!("{}\n", failure.text())));
            Failure::Status(status)
        }
        _ => failure,
    }
}

/// Ends with the status of a command that ended. Its output may end before it does.
async fn status(client: &Client, id: &str) -> Outcome {
    let mut pause = Duration::from_millis(1);
    loop {
        let found = client.json(Request::get(Target::new(&["exec", id, "json"]))).await?;
        if found.is("Running") && pause < PATIENCE {
            tokio::time::sleep(pause).await;
            pause *= 2;
            continue;
        }
        return match found.int("ExitCode") {
            0 => Ok(()),
            status => Err(Failure::Status(u8::try_from(status & 0xff).unwrap_or(1))),
        };
    }
}
