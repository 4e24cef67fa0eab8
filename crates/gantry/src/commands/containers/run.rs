//! `run` and `create`.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::session::{End, Session, asked_keys, check_terminal, leaving};
use super::signals::{Ears, Proxy, Sized, first_size};
use crate::cli::container::Run;
use crate::cli::create::Create;
use crate::client::lines::Lines;
use crate::client::{Client, Place, Request, Target};
use crate::commands::daemon::pull;
use crate::context::Context;
use crate::create::pairs::Outside;
use crate::create::{Plan, plan};
use crate::failure::{Failure, Outcome, clean};
use crate::template::Value;
use crate::terminal;
use crate::user;

/// Status of a command that could not run the container.
const NOT_RUN: u8 = 125;

/// Makes a container and shows its id.
pub fn create(context: &Context, args: &Create) -> Outcome {
    let plan = read(context, args, false).map_err(|why| refuse("create", &why, true, NOT_RUN))?;
    context.ask(async |client| {
        let id = make(client, args, plan).await?;
        terminal::print(&format!("{id}\n"))
    })
}

/// Makes a container, starts it, and stays with it unless it is detached.
pub fn run(context: &Context, args: &Run) -> Outcome {
    let plan = read(context, &args.create, args.detach).map_err(|why| refuse("run", &why, true, NOT_RUN))?;
    if !args.detach {
        check_terminal(plan.attach[0], args.create.general.tty)?;
    }
    let outcome = context.ask(async |client| {
        let attach = plan.attach;
        let id = make(client, &args.create, plan).await.map_err(|failure| not_run(failure, true))?;
        if attach == [false; 3] { detached(client, &id).await } else { attached(client, args, attach, &id).await }
    });
    // Whatever went wrong on the way is told from what the container ended with.
    match outcome {
        Err(Failure::Error(report)) => {
            terminal::tell(&report.lines(terminal::colours()));
            Err(Failure::Status(NOT_RUN))
        }
        outcome => outcome,
    }
}

/// What the options mean, with this program's environment and files.
fn read(context: &Context, args: &Create, detach: bool) -> Result<Plan, String> {
    if !["always", "missing", "never"].contains(&args.general.pull.as_str()) {
        let asked = &args.general.pull;
        return Err(format!("invalid pull option: '{asked}': must be one of \"always\", \"missing\" or \"never\""));
    }
    let host = Place::of(context.global()).map(|place| place.host.to_string()).unwrap_or_default();
    let proxies = user::proxies(&host, &args.general.env);
    if proxies.is_empty() {
        return with_outside(|outside| plan(args, detach, outside));
    }
    let mut args = args.clone();
    args.general.env.splice(0..0, proxies);
    with_outside(|outside| plan(&args, detach, outside))
}

/// Gives what is outside of this program to what reads options.
pub fn with_outside<T>(read: impl FnOnce(&Outside<'_>) -> Result<T, String>) -> Result<T, String> {
    let file = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("open {}: no such file or directory", path.display()),
            ErrorKind::InvalidData => format!("{}: it is not UTF-8", path.display()),
            _ => format!("open {}: {error}", path.display()),
        })
    };
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    read(&Outside { variable: &|name| std::env::var(name).ok(), read: &file, here: &here })
}

/// What is said when nothing was run, as Docker does.
fn refuse(command: &str, why: &str, help: bool, status: u8) -> Failure {
    let why = why.strip_suffix('.').unwrap_or(why);
    let help = if help { format!("\nSee 'gantry {command} --help'.") } else { String::new() };
    terminal::tell(&clean(&format!("gantry: {why}.{help}\n")));
    Failure::Status(status)
}

/// The same for what the daemon said: 127 for a missing command, 126 for one that cannot be run.
fn not_run(failure: Failure, help: bool) -> Failure {
    let text = match &failure {
        Failure::Daemon { .. } | Failure::Error(_) => failure.text(),
        _ => return failure,
    };
    if let Failure::Error(report) = &failure
        && report.hint.is_some()
    {
        terminal::tell(&report.lines(terminal::colours()));
        return Failure::Status(NOT_RUN);
    }
    refuse("run", &text, help, status_of(&text))
}

/// The status by the words of the daemon.
pub fn status_of(text: &str) -> u8 {
    let has = |part: &str| text.contains(part);
    if has("executable file not found") || has("no such file or directory") {
        127
    } else if has("permission denied") || has("is a directory") {
        126
    } else {
        NOT_RUN
    }
}

/// Makes the container, and pulls its image if that is to be done.
async fn make(client: &Client, args: &Create, plan: Plan) -> Outcome<String> {
    for warning in &plan.warnings {
        terminal::tell(&format!("{warning}\n"));
    }
    let mut id_file = args.general.cidfile.as_deref().map(IdFile::create).transpose()?;
    let image = args.command.first().map(String::as_str).unwrap_or_default();
    let mut body = plan.body;
    let (rows, columns) = terminal::size().unwrap_or((0, 0));
    body["HostConfig"]["ConsoleSize"] = json!([rows, columns]);
    let platform = args.general.platform.as_deref();
    let pull = async || pull::for_container(client, image, platform, args.general.quiet).await;
    if args.general.pull == "always" {
        pull().await?;
    }
    let target =
        Target::new(&["containers", "create"]).maybe("name", args.general.name.as_deref()).maybe("platform", platform);
    let request = || Request::post(target.clone()).json(&body);
    let made = match client.json(request()).await {
        Err(failure) if failure.not_found() && args.general.pull == "missing" && is_image(&failure) => {
            if !args.general.quiet {
                terminal::tell(&clean(&format!("Unable to find image '{}' locally\n", pull::tagged(image))));
            }
            pull().await?;
            client.json(request()).await?
        }
        made => made?,
    };
    for warning in made.list("Warnings") {
        terminal::tell(&clean(&format!("WARNING: {warning}\n")));
    }
    let id = made.text("Id").to_owned();
    if let Some(file) = &mut id_file {
        file.write(&id)?;
    }
    Ok(id)
}

/// Whether what is missing is the image, and not a network or a container that is named too.
fn is_image(failure: &Failure) -> bool {
    failure.text().to_lowercase().contains("no such image")
}

/// The file of `--cidfile`: it goes away again if nothing was made.
struct IdFile<'a> {
    path: &'a Path,
    file: File,
    written: bool,
}

impl<'a> IdFile<'a> {
    fn create(path: &'a Path) -> Outcome<Self> {
        match File::options().write(true).create_new(true).open(path) {
            Ok(file) => Ok(Self { path, file, written: false }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {}",
                path.display()
            ))),
            Err(error) => {
                Err(Failure::new(format!("failed to create the container ID file {}: {error}", path.display())))
            }
        }
    }

    fn write(&mut self, id: &str) -> Outcome {
        self.written = true;
        self.file
            .write_all(id.as_bytes())
            .map_err(|error| Failure::new(format!("failed to write the container ID to the file: {error}")))
    }
}

impl Drop for IdFile<'_> {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(self.path);
        }
    }
}

async fn detached(client: &Client, id: &str) -> Outcome {
    client.bytes(start(id)).await.map_err(|failure| not_run(failure, false))?;
    terminal::print(&format!("{id}\n"))
}

fn start(id: &str) -> Request {
    Request::post(Target::new(&["containers", id, "start"]))
}

/// Joins the terminal before the container starts, so that nothing of what it writes is lost.
async fn attached(client: &Client, args: &Run, attach: [bool; 3], id: &str) -> Outcome {
    let general = &args.create.general;
    let [input, out, err] = attach;
    let keys = asked_keys(args.detach_keys.as_deref());
    let sized = (general.tty && std::io::stdout().is_terminal()).then(|| Sized::Container(id.to_owned()));
    let ears = Ears::open(Proxy {
        container: args.sig_proxy.then(|| id.to_owned()),
        sized: sized.clone(),
        raw: general.tty && input,
    })?;
    if !out && !err {
        terminal::print(&format!("{id}\n"))?;
    }
    let target = Target::new(&["containers", id, "attach"]).flag("stream", true);
    let target = target.flag("stdin", input).flag("stdout", out).flag("stderr", err);
    let target = target.maybe("detachKeys", keys.as_deref());
    let condition = if general.rm { "removed" } else { "next-exit" };
    let wait = Request::post(Target::new(&["containers", id, "wait"]).with("condition", condition));
    let (connection, wait) = tokio::join!(client.hijack(Request::post(target)), client.call(wait));
    let (connection, mut wait) = (connection?, Lines::of(wait?));
    if let Err(failure) = client.bytes(start(id)).await {
        if general.rm {
            // Whoever makes it again at once must not find the name taken.
            let _ = wait.next().await;
        }
        return Err(not_run(failure, false));
    }
    let session = Session { input, output: out || err, terminal: general.tty, keys: leaving(keys.as_deref()) };
    let stay = async {
        let size = async {
            if let Some(sized) = &sized {
                first_size(client, sized).await;
            }
        };
        let (end, ()) = tokio::join!(session.run(connection), size);
        match end? {
            End::Over if out || err => status(wait).await,
            End::Over | End::Left => Ok(()),
        }
    };
    tokio::select! {
        outcome = stay => outcome,
        outcome = ears.serve(client) => outcome,
    }
}

/// Waits for the end, and ends with its status.
pub async fn status(mut wait: Lines) -> Outcome {
    let answer = wait.next().await?.unwrap_or_default();
    if let Some(Value::Text(why)) = answer.get("Error").and_then(|error| error.get("Message"))
        && !why.is_empty()
    {
        terminal::tell(&clean(&format!("Error waiting for container: {why}\n")));
        return Err(Failure::Status(NOT_RUN));
    }
    match answer.int("StatusCode") {
        0 => Ok(()),
        status => Err(Failure::Status(u8::try_from(status & 0xff).unwrap_or(NOT_RUN))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        let check = |text: &str, expect: u8| assert_eq!(status_of(text), expect, "{text}");
        check("exec: \"frob\": executable file not found in $PATH: unknown", 127);
        check("stat /frob: no such file or directory: unknown", 127);
        check("exec: \"/etc\": permission denied: unknown", 126);
        check("exec: \"/etc\": is a directory: unknown", 126);
        check("Conflict. The container name \"/x\" is already in use", 125);
    }
}
