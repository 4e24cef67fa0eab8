//! What is done with containers by their names, one after the other or many at once.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use serde_json::Value as Json;

use crate::cli::container::{Commit, Kill, Names, Rename, Rm, Start, Stop, Update};
use crate::client::{Client, Request, Target};
use crate::context::Context;
use crate::create;
use crate::failure::{Failure, Outcome, clean};
use crate::template::Value;
use crate::terminal;

/// How many containers are dealt with at once.
const AT_ONCE: usize = 50;
/// The states of containers that run.
const RUNNING: &[&str] = &["running", "restarting"];
/// The states of containers that do not.
const ENDED: &[&str] = &["created", "exited", "dead"];

/// Does one thing with each; shows the names of those that it was done with, in order, and says of the others why not.
async fn each<F: Future<Output = Outcome>>(names: &[String], at_once: usize, work: impl Fn(String) -> F) -> Outcome {
    let mut outcomes = stream::iter(names.iter().map(|name| work(name.clone()))).buffered(at_once);
    let mut failed = false;
    for name in names {
        match outcomes.next().await {
            Some(Err(Failure::Closed)) => return Err(Failure::Closed),
            Some(Err(failure @ Failure::Error(_))) => return Err(failure),
            Some(Err(failure)) => {
                failed = true;
                terminal::tell(&clean(&format!("{}\n", failure.text())));
            }
            Some(Ok(())) => terminal::print(&format!("{name}\n"))?,
            None => break,
        }
    }
    if failed { Err(Failure::Said) } else { Ok(()) }
}

async fn post(client: &Client, target: Target) -> Outcome {
    client.bytes(Request::post(target)).await.map(drop)
}

fn action(name: &str, action: &str) -> Target {
    Target::new(&["containers", name, action])
}

/// The names that were given; with `all` those of everything that is in one of these states.
async fn named(client: &Client, given: &[String], all: bool, states: &[&str]) -> Outcome<Vec<String>> {
    if !all {
        return Ok(given.to_vec());
    }
    let states: BTreeMap<&str, bool> = states.iter().map(|state| (*state, true)).collect();
    let target = Target::new(&["containers", "json"]).flag("all", true);
    let target = if states.is_empty() {
        target
    } else {
        target.with("filters", &serde_json::to_string(&BTreeMap::from([("status", states)]))?)
    };
    let found = client.json(Request::get(target)).await?;
    let name = |one: &Value| one.list("Names").first().map(|name| name.to_string().trim_start_matches('/').to_owned());
    Ok(found.items().iter().filter_map(name).collect())
}

/// Starts containers.
pub fn start(context: &Context, args: &Start) -> Outcome {
    context.ask(async |client| {
        if args.attach || args.interactive {
            return super::attach::start(client, args).await;
        }
        if args.checkpoint.is_some() && args.names.len() > 1 {
            return Err(Failure::new("you cannot restore multiple containers at once"));
        }
        let target = |name: &str| {
            action(name, "start")
                .maybe("checkpoint", args.checkpoint.as_deref())
                .maybe("checkpoint-dir", args.checkpoint_dir.as_deref())
        };
        let mut failed = Vec::new();
        for name in &args.names {
            match post(client, target(name)).await {
                Ok(()) => terminal::print(&format!("{name}\n"))?,
                Err(failure) => {
                    terminal::tell(&clean(&format!("{}\n", failure.text())));
                    failed.push(name.as_str());
                }
            }
        }
        if failed.is_empty() {
            return Ok(());
        }
        terminal::tell(&clean(&format!("Error: failed to start containers: {}\n", failed.join(", "))));
        Err(Failure::Said)
    })
}

/// Stops containers, or stops and starts them.
pub fn stop(context: &Context, args: &Stop, what: &str) -> Outcome {
    let time = args.time.map(|time| time.to_string());
    context.ask(async |client| {
        let names = named(client, &args.names, args.all, RUNNING).await?;
        each(&names, AT_ONCE, |name| {
            let target = action(&name, what).maybe("signal", args.signal.as_deref()).maybe("t", time.as_deref());
            post(client, target)
        })
        .await
    })
}

/// Sends containers a signal.
pub fn kill(context: &Context, args: &Kill) -> Outcome {
    context.ask(async |client| {
        let target = |name: &str| action(name, "kill").maybe("signal", args.signal.as_deref());
        let names = named(client, &args.names, args.all, RUNNING).await?;
        each(&names, AT_ONCE, |name| post(client, target(&name))).await
    })
}

/// Does what needs no more than the name: `pause` and `unpause`.
pub fn simple(context: &Context, args: &Names, what: &str) -> Outcome {
    context.ask(async |client| each(&args.names, AT_ONCE, |name| post(client, action(&name, what))).await)
}

/// Gives a container another name.
pub fn rename(context: &Context, args: &Rename) -> Outcome {
    let (old, new) = (args.name.trim(), args.new.trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::Usage("a container has an old and a new name".to_owned()));
    }
    context.ask(async |client| {
        let outcome = post(client, action(old, "rename").with("name", new)).await;
        if let Err(failure @ Failure::Daemon { .. }) = outcome {
            let text = format!("{}\nError: failed to rename container named {old}\n", failure.text());
            terminal::tell(&clean(&text));
            return Err(Failure::Said);
        }
        outcome
    })
}

/// Changes the limits of containers.
pub fn update(context: &Context, args: &Update) -> Outcome {
    let body = create::update(args).map_err(Failure::new)?;
    context.ask(async |client| {
        let warnings = std::cell::RefCell::new(Vec::new());
        let outcome = each(&args.names, 1, |name| {
            let (body, warnings) = (&body, &warnings);
            async move {
                let done = client.json(Request::post(action(&name, "update")).json(body)).await?;
                warnings.borrow_mut().extend(done.list("Warnings").iter().map(ToString::to_string));
                Ok(())
            }
        })
        .await;
        for warning in warnings.into_inner() {
            terminal::tell(&clean(&format!("{warning}\n")));
        }
        outcome
    })
}

/// Waits until containers end, and shows their statuses.
pub fn wait(context: &Context, args: &Names) -> Outcome {
    context.ask(async |client| {
        let mut failed = false;
        for name in &args.names {
            match client.json(Request::post(action(name, "wait"))).await {
                Ok(answer) => terminal::print(&format!("{}\n", answer.int("StatusCode")))?,
                Err(failure @ Failure::Error(_)) => return Err(failure),
                Err(failure) => {
                    failed = true;
                    terminal::tell(&clean(&format!("{}\n", failure.text())));
                }
            }
        }
        if failed { Err(Failure::Said) } else { Ok(()) }
    })
}

/// Removes containers.
pub fn remove(context: &Context, args: &Rm) -> Outcome {
    context.ask(async |client| {
        let mut failed = false;
        let work = |name: &String| {
            let name = name.trim_matches('/').to_owned();
            async move {
                let target = Target::new(&["containers", &name])
                    .flag("v", args.volumes)
                    .flag("link", args.link)
                    .flag("force", args.force);
                client.bytes(Request::delete(target)).await.map(drop)
            }
        };
        let states: &[&str] = if args.force { &[] } else { ENDED };
        let names = named(client, &args.names, args.all, states).await?;
        let mut outcomes = stream::iter(names.iter().map(work)).buffered(AT_ONCE);
        for name in &names {
            match outcomes.next().await {
                Some(Ok(())) => terminal::print(&format!("{name}\n"))?,
                Some(Err(failure @ Failure::Error(_))) => return Err(failure),
                Some(Err(failure)) => {
                    terminal::tell(&clean(&format!("{}\n", failure.text())));
                    failed |= !(args.force && failure.not_found());
                }
                None => break,
            }
        }
        if failed { Err(Failure::Said) } else { Ok(()) }
    })
}

/// Makes an image of a container.
pub fn commit(context: &Context, args: &Commit) -> Outcome {
    let (repository, tag) = match &args.image {
        None => (None, None),
        Some(name) => {
            let (repository, tag) = super::split_tag(name);
            (Some(repository), tag)
        }
    };
    let mut target = Target::new(&["commit"])
        .with("container", &args.name)
        .maybe("repo", repository)
        .maybe("tag", tag)
        .maybe("comment", args.message.as_deref())
        .maybe("author", args.author.as_deref())
        .with("pause", if args.pause { "1" } else { "0" });
    for change in &args.change {
        target = target.with("changes", change);
    }
    context.ask(async |client| {
        let made = client.json(Request::post(target).json(&Json::Null)).await?;
        terminal::print(&format!("{}\n", made.text("Id")))
    })
}
