//! Terminals, descriptors handed on, and how errors are told.

use std::fs;

use gantry_model::oci::spec::ConsoleSize;
use gantry_testkit::console::{ConsoleSocket, read_terminal};
use gantry_testkit::json::{at, parse};
use gantry_testkit::spec::{Parts, mapping};
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq};

use crate::check::{check_refused, expect, nothing_left, test};
use crate::exec::{descriptor_numbers, with_descriptors};

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    vec![
        test("console::socket_and_size", |kit| console(kit, false)),
        test("console::in_a_user_namespace", |kit| console(kit, true)),
        test("console::device", console_device),
        test("console::terminal_without_socket_is_refused", without_socket),
        test("console::socket_without_terminal_is_refused", without_terminal),
        test("console::missing_socket_is_refused", missing_socket),
        test("descriptors::preserved", preserved),
        test("descriptors::not_preserved_are_closed", not_preserved),
        test("descriptors::preserved_but_closed_are_refused", preserved_closed),
        test("descriptors::listen", listen),
        test("errors::log_file_json", log_json),
        test("errors::log_file_text", log_text),
        test("errors::log_appends", log_appends),
        test("errors::unknown_option", unknown_option),
        test("errors::unknown_command", unknown_command),
        test("errors::dry_run_prints_steps", dry_run),
    ]
}

fn with_terminal(kit: &Kit) -> Outcome<(Container<'_>, ConsoleSocket, String)> {
    let mut container = kit.container()?;
    container.spec.process_mut().terminal = true;
    let path = container.host("console");
    let socket = ConsoleSocket::bind(&path)?;
    Ok((container, socket, path.display().to_string()))
}

fn console(kit: &Kit, mapped: bool) -> Outcome {
    let (mut container, socket, path) = with_terminal(kit)?;
    if mapped {
        container.spec.map_users(&[mapping(0, 100_000, 65_536)]);
    }
    container.spec.process_mut().console_size = Some(ConsoleSize { height: 33, width: 77 });
    container.spec.set_args(&["/init", "tty", "+", "echo", "end"]);
    container.create_with(&["--console-socket", &path])?;
    let mut terminal = socket.terminal(kit.time(5.0))?;
    container.start()?;
    let text = read_terminal(&mut terminal, "end", kit.time(5.0))?;
    let found = parse(text.lines().next().unwrap_or_default())?;
    expect(&found, &[("/streams", "[true,true,true]"), ("/rows", "33"), ("/columns", "77"), ("/controlling", "true")])?;
    ensure!(at(&found, "/name").as_str().is_some_and(|name| name.starts_with("/dev/pts/")), "name: {found}");
    Ok(())
}

fn console_device(kit: &Kit) -> Outcome {
    let (mut container, socket, path) = with_terminal(kit)?;
    container.spec.set_args(&[
        "/init",
        "stat",
        "/dev/console",
        "+",
        "try",
        "open-rw",
        "/dev/console",
        "+",
        "echo",
        "end",
    ]);
    container.create_with(&["--console-socket", &path])?;
    let mut terminal = socket.terminal(kit.time(5.0))?;
    container.start()?;
    let text = read_terminal(&mut terminal, "end", kit.time(5.0))?;
    let mut lines = text.lines();
    let found = parse(lines.next().unwrap_or_default())?;
    expect(&found, &[("/kind", "\"char\""), ("/major", "136")])?;
    ensure_eq!(lines.next(), Some("ok"), "opening the console");
    Ok(())
}

fn without_socket(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.process_mut().terminal = true;
    check_refused(&container, "console")
}

fn without_terminal(kit: &Kit) -> Outcome {
    let (mut container, _socket, path) = with_terminal(kit)?;
    container.spec.process_mut().terminal = false;
    container.write_config()?;
    container.refused(&["create", "--console-socket", &path, &container.id])?;
    nothing_left(&container)
}

fn missing_socket(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.process_mut().terminal = true;
    container.write_config()?;
    container.refused(&["create", "--console-socket", "/nowhere/socket", &container.id])?;
    nothing_left(&container)
}

fn preserved(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    container.write_config()?;
    let output = with_descriptors(&container, &["run", "--preserve-fds", "2", &container.id])?;
    ensure!(output.status.success(), "run --preserve-fds: {}", output.text());
    ensure_eq!(descriptor_numbers(&parse(&output.stdout)?), [0, 1, 2, 3, 4], "descriptors");
    Ok(())
}

fn not_preserved(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    container.write_config()?;
    let output = with_descriptors(&container, &["run", &container.id])?;
    ensure_eq!(descriptor_numbers(&parse(&output.stdout)?), [0, 1, 2], "descriptors");
    Ok(())
}

fn preserved_closed(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    container.write_config()?;
    container.refused(&["create", "--preserve-fds", "5", &container.id])?;
    nothing_left(&container)
}

/// Sockets of a service manager are handed on by number, with the count in the environment.
fn listen(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.env.push(("LISTEN_FDS".into(), "2".into()));
    container.write_config()?;
    let output = with_descriptors(&container, &["run", &container.id])?;
    ensure!(output.status.success(), "run: {}", output.text());
    let report = parse(&output.stdout)?;
    ensure_eq!(descriptor_numbers(&report), [0, 1, 2, 3, 4], "descriptors");
    expect(&report, &[("/env/LISTEN_FDS", "\"2\""), ("/env/LISTEN_PID", "\"1\"")])
}

/// Makes an error with a log file in a format, and gives the log.
fn logged(container: &mut Container<'_>, format: &str) -> Outcome<String> {
    let path = container.host("log");
    container.global = vec!["--log".into(), path.display().to_string(), "--log-format".into(), format.into()];
    container.spec.mounts.push(gantry_testkit::spec::mount("/m", "bind", "/nowhere/at/all", &["bind"]));
    container.write_config()?;
    let output = container.call(&["create", &container.id])?;
    ensure!(!output.status.success(), "create succeeded: {}", output.text());
    Ok(fs::read_to_string(&path)?)
}

fn log_json(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let log = logged(&mut container, "json")?;
    let entries: Vec<_> = log.lines().map(parse).collect::<Outcome<_>>()?;
    let error = entries.iter().find(|entry| at(entry, "/level") == "error").cloned().unwrap_or_default();
    ensure!(at(&error, "/msg").as_str().is_some_and(|text| text.contains("/nowhere/at/all")), "log: {log}");
    ensure!(at(&error, "/time").as_str().is_some_and(|text| text.contains('T')), "log: {log}");
    Ok(())
}

fn log_text(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    let log = logged(&mut container, "text")?;
    ensure!(log.contains("level=error") && log.contains("/nowhere/at/all"), "log: {log}");
    Ok(())
}

fn log_appends(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    fs::write(container.host("log"), "before\n")?;
    let log = logged(&mut container, "json")?;
    ensure!(log.starts_with("before\n") && log.lines().count() > 1, "log: {log}");
    Ok(())
}

fn unknown_option(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    let output = container.call(&["create", "--frobnicate", &container.id])?;
    let text = format!("{}{}", output.stdout, output.stderr);
    ensure!(!output.status.success() && text.contains("frobnicate"), "the message: {}", output.text());
    nothing_left(&container)
}

fn unknown_command(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    let output = container.call(&["frobnicate"])?;
    let text = format!("{}{}", output.stdout, output.stderr);
    ensure!(!output.status.success() && text.contains("frobnicate"), "the message: {}", output.text());
    Ok(())
}

/// Prints what would be done, and does nothing of it.
fn dry_run(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "append", "/ran", "yes"]);
    let output = container.run_with(&["--dry-run"])?;
    ensure!(output.status.success(), "run --dry-run: {}", output.text());
    for word in ["mount", "/proc", "pivot", "/init"] {
        ensure!(output.stdout.contains(word), "the steps do not say {word}: {}", output.stdout);
    }
    ensure!(!container.rootfs("ran").exists(), "the program ran");
    ensure!(!container.state_root().join(&container.id).exists(), "there is a state");
    nothing_left(&container)
}
