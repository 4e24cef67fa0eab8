//! `stats`: a table that changes, or once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::cli::container::Stats;
use crate::client::lines::Lines;
use crate::client::{Client, Request, Target};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::render::listing::Form;
use crate::render::stats::{LISTING, row};
use crate::template::Value;
use crate::terminal;
use crate::user;

/// How often the table is drawn.
const FRAME: Duration = Duration::from_millis(500);
/// A terminal's words for a clean screen with the cursor at its top, and for the lines below it.
const CLEAN: &str = "\u{1b}[2J\u{1b}[H";

/// What was measured last, by the name that was asked for, in the order of the list.
type Board = RefCell<BTreeMap<usize, (String, Option<Value>)>>;

/// Shows what containers use.
pub fn run(context: &Context, args: &Stats) -> Outcome {
    let form = LISTING.form(args.format.clone().or_else(|| user::setting("statsFormat")).as_deref())?;
    context.ask(
        async |client| if args.no_stream { once(client, args, &form).await } else { live(client, args, &form).await },
    )
}

/// The short ids of what there is, newest first.
async fn names(client: &Client, all: bool) -> Outcome<Vec<String>> {
    let found = client.json(Request::get(Target::new(&["containers", "json"]).flag("all", all))).await?;
    Ok(found.items().iter().map(|one| one.text("Id").chars().take(12).collect()).collect())
}

fn target(name: &str, stream: bool) -> Target {
    Target::new(&["containers", name, "stats"]).with("stream", if stream { "1" } else { "0" })
}

async fn once(client: &Client, args: &Stats, form: &Form) -> Outcome {
    let names = if args.names.is_empty() { names(client, args.all).await? } else { args.names.clone() };
    let asked = names.iter().map(|name| client.json(Request::get(target(name, false))));
    let mut rows = Vec::new();
    let mut failed = false;
    for (name, found) in names.iter().zip(futures_util::future::join_all(asked).await) {
        match found {
            Ok(stats) => rows.push(row(name, Some(&stats).filter(|stats| measured(stats)), !trunc(args))),
            // One that was listed may have gone since.
            Err(failure) if args.names.is_empty() && failure.not_found() => {}
            Err(failure @ Failure::Daemon { .. }) => {
                failed = true;
                terminal::tell(&format!("{}\n", failure.text()));
            }
            Err(failure) => return Err(failure),
        }
    }
    if failed {
        return Err(Failure::Said);
    }
    terminal::print(&LISTING.render(form, &rows, terminal::width().filter(|_| trunc(args)))?)
}

const fn trunc(args: &Stats) -> bool {
    !args.no_trunc
}

/// A container that does not run has nothing to measure, and says so by having no name of itself or no time.
fn measured(stats: &Value) -> bool {
    !stats.text("id").is_empty() || !stats.text("name").is_empty()
}

/// Draws until it is ended. Without names, what starts meanwhile is shown too, and what ends is not any more.
async fn live(client: &Client, args: &Stats, form: &Form) -> Outcome {
    let board = Board::default();
    let mut watched = FuturesUnordered::new();
    let mut known: Vec<String> = Vec::new();
    let every = args.names.is_empty();
    let first = if every { names(client, args.all).await? } else { args.names.clone() };
    for name in first {
        known.push(name.clone());
        watched.push(watch(client, name, known.len() - 1, &board));
    }
    let mut events = if every { Some(events(client).await?) } else { None };
    let mut frames = tokio::time::interval(FRAME);
    loop {
        tokio::select! {
            _ = frames.tick() => {
                let ready = board.borrow().values().all(|(_, stats)| stats.is_some());
                // The first picture waits until there is something to see of each.
                if ready || frames_passed(&board) {
                    draw(&board, args, form)?;
                }
            }
            Some(outcome) = watched.next() => {
                outcome?;
                if watched.is_empty() && !every {
                    return draw(&board, args, form);
                }
            }
            event = next_event(&mut events) => {
                let Some((id, action)) = event? else { return Ok(()) };
                let wanted = action == "start" || (args.all && action == "create");
                let shown = board.borrow().values().any(|(name, _)| *name == id);
                if wanted && !shown {
                    known.push(id.clone());
                    watched.push(watch(client, id, known.len() - 1, &board));
                } else if (action == "die" && !args.all) || action == "destroy" {
                    board.borrow_mut().retain(|_, (name, _)| *name != id);
                }
            }
        }
    }
}

/// Whether anything was measured at all.
fn frames_passed(board: &Board) -> bool {
    let board = board.borrow();
    board.is_empty() || board.values().any(|(_, stats)| stats.is_some())
}

async fn watch(client: &Client, name: String, place: usize, board: &Board) -> Outcome {
    board.borrow_mut().insert(place, (name.clone(), None));
    let answer = match client.call(Request::get(target(&name, true))).await {
        Ok(answer) => answer,
        Err(failure) => {
            board.borrow_mut().remove(&place);
            terminal::tell(&format!("{}\n", failure.text()));
            return Ok(());
        }
    };
    let mut lines = Lines::of(answer);
    while let Some(stats) = lines.next().await? {
        let mut board = board.borrow_mut();
        let Some(slot) = board.get_mut(&place) else { return Ok(()) };
        slot.1 = Some(stats);
    }
    Ok(())
}

async fn events(client: &Client) -> Outcome<Lines> {
    let target = Target::new(&["events"]).with("filters", r#"{"type":["container"]}"#);
    client.call(Request::get(target)).await.map(Lines::of)
}

/// The next container that began or ended; none at the end of events.
async fn next_event(events: &mut Option<Lines>) -> Outcome<Option<(String, String)>> {
    let Some(events) = events else { return std::future::pending().await };
    let Some(event) = events.next().await? else { return Ok(None) };
    let id = event.at(&["Actor"]).text("ID").chars().take(12).collect();
    Ok(Some((id, event.text("Action").to_owned())))
}

fn draw(board: &Board, args: &Stats, form: &Form) -> Outcome {
    let rows: Vec<Value> = board
        .borrow()
        .values()
        .map(|(name, stats)| row(name, stats.as_ref().filter(|stats| measured(stats)), !trunc(args)))
        .collect();
    let text = LISTING.render(form, &rows, terminal::width().filter(|_| trunc(args)))?;
    terminal::print(&format!("{CLEAN}{text}"))
}
