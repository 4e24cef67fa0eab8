//! `attach`, and `start` with a terminal.

use std::io::IsTerminal;

use super::run::status;
use super::session::{End, Session, asked_keys, check_terminal, leaving};
use super::signals::{Ears, Proxy, Sized, first_size};
use crate::cli::container::{Attach, Start};
use crate::client::lines::Lines;
use crate::client::{Client, Request, Target};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::template::Value;

/// Joins the terminal to a running container.
pub fn run(context: &Context, args: &Attach) -> Outcome {
    context.ask(async |client| attach(client, args).await)
}

async fn inspect(client: &Client, name: &str) -> Outcome<Value> {
    client.json(Request::get(Target::new(&["containers", name, "json"]))).await
}

/// Refuses what cannot be attached to.
fn check_state(found: &Value) -> Outcome {
    let state = found.get("State").cloned().unwrap_or_default();
    let why = if !state.is("Running") {
        "You cannot attach to a stopped container, start it first"
    } else if state.is("Paused") {
        "You cannot attach to a paused container, unpause it first"
    } else if state.is("Restarting") {
        "You cannot attach to a restarting container, wait until it is running"
    } else {
        return Ok(());
    };
    Err(Failure::new(why))
}

async fn attach(client: &Client, args: &Attach) -> Outcome {
    let wait = Lines::of(client.call(wait(&args.name, "")).await?);
    let found = inspect(client, &args.name).await?;
    check_state(&found)?;
    let terminal = found.at(&["Config"]).is("Tty");
    check_terminal(!args.no_stdin, terminal)?;
    let keys = asked_keys(args.detach_keys.as_deref());
    let input = !args.no_stdin && found.at(&["Config"]).is("OpenStdin");
    let sized = (terminal && std::io::stdout().is_terminal()).then(|| Sized::Container(args.name.clone()));
    let ears = Ears::open(Proxy {
        container: (args.sig_proxy && !terminal).then(|| args.name.clone()),
        sized: sized.clone(),
        raw: terminal && input,
    })?;
    let connection = client.hijack(join(&args.name, input, keys.as_deref())).await?;
    // It may have ended before it was attached to, and then says nothing.
    check_state(&inspect(client, &args.name).await?)?;
    let session = Session { input, output: true, terminal, keys: leaving(keys.as_deref()) };
    let stay = async {
        let size = async {
            if let Some(sized) = &sized {
                first_size(client, sized).await;
            }
        };
        let (end, ()) = tokio::join!(session.run(connection), size);
        match end? {
            End::Over => status(wait).await,
            End::Left => Err(Failure::new("read escape sequence")),
        }
    };
    tokio::select! {
        outcome = stay => outcome,
        outcome = ears.serve(client) => outcome,
    }
}

fn wait(name: &str, condition: &str) -> Request {
    let condition = Some(condition).filter(|condition| !condition.is_empty());
    Request::post(Target::new(&["containers", name, "wait"]).maybe("condition", condition))
}

fn join(name: &str, input: bool, keys: Option<&str>) -> Request {
    let target = Target::new(&["containers", name, "attach"]).flag("stream", true).flag("stdin", input);
    Request::post(target.flag("stdout", true).flag("stderr", true).maybe("detachKeys", keys))
}

/// Starts one container and stays with it.
pub async fn start(client: &Client, args: &Start) -> Outcome {
    let [name] = args.names.as_slice() else {
        return Err(Failure::new("you cannot start and attach multiple containers at once"));
    };
    let found = inspect(client, name).await?;
    let id = found.text("Id").to_owned();
    let terminal = found.at(&["Config"]).is("Tty");
    let input = args.interactive && found.at(&["Config"]).is("OpenStdin");
    check_terminal(input, terminal)?;
    let sized = (terminal && std::io::stdout().is_terminal()).then(|| Sized::Container(id.clone()));
    let container = (!terminal).then(|| id.clone());
    let ears = Ears::open(Proxy { container, sized: sized.clone(), raw: terminal && input })?;
    let keys = asked_keys(args.detach_keys.as_deref());
    let keys = keys.as_deref();
    let condition = if found.at(&["HostConfig"]).is("AutoRemove") { "removed" } else { "next-exit" };
    let (connection, wait) = tokio::join!(client.hijack(join(&id, input, keys)), client.call(wait(&id, condition)));
    let (connection, wait) = (connection?, Lines::of(wait?));
    let target = Target::new(&["containers", &id, "start"])
        .maybe("checkpoint", args.checkpoint.as_deref())
        .maybe("checkpoint-dir", args.checkpoint_dir.as_deref());
    client.bytes(Request::post(target)).await?;
    let session = Session { input, output: true, terminal, keys: leaving(keys) };
    let stay = async {
        let size = async {
            if let Some(sized) = &sized {
                first_size(client, sized).await;
            }
        };
        let (end, ()) = tokio::join!(session.run(connection), size);
        match end? {
            End::Over => status(wait).await,
            End::Left => Ok(()),
        }
    };
    tokio::select! {
        outcome = stay => outcome,
        outcome = ears.serve(client) => outcome,
    }
}
