//! The monitor of a process: streams, log, exit record, and what is left when it ends.

use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use gantry_model::logrecord::{Found, first};
use gantry_model::monitor::{DONE, Exit, Launch, LogFile, LogFormat, Ready, Request};
use gantry_testkit::command::{Running, wait_for};
use gantry_testkit::leak::MARKER;
use gantry_testkit::outcome::fail;
use gantry_testkit::spec::Parts;
use gantry_testkit::{Container, Kit, Outcome, Test, ensure, ensure_eq};
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType};
use rustix::process::{Pid, Signal, kill_process};

use crate::check::test;

/// The tests of this area.
pub fn tests() -> Vec<Test> {
    vec![
        test("monitor::streams_log_and_exit", streams),
        test("monitor::output_is_whole_for_slow_readers", slow_reader),
        test("monitor::log_is_whole_though_a_client_does_not_read", deaf_client),
        test("monitor::standard_input_ends", input_ends),
        test("monitor::terminal", terminal),
        test("monitor::further_process", further_process),
        test("monitor::killed_container", killed),
        test("monitor::failed_creation_leaves_nothing", failed_creation),
        test("monitor::warnings_are_not_output", warnings),
        test("monitor::bad_launch_is_refused", bad_launch),
        test("monitor::is_small", small),
    ]
}

/// A monitor that was started, and what it was told.
struct Monitor {
    process: Running,
    launch: Launch,
    ready: Ready,
    connection: Option<OwnedFd>,
}

impl Monitor {
    fn start(container: &Container<'_>, change: impl Fn(&mut Launch)) -> Outcome<Self> {
        container.write_config()?;
        let path = |name: &str| container.host(name).display().to_string();
        let log = LogFile { path: path("log"), format: LogFormat::Local, max_size: 10 << 20, max_files: 2 };
        let mut launch = Launch {
            root: container.state_root().display().to_string(),
            id: container.id.clone(),
            bundle: container.bundle().display().to_string(),
            exec: None,
            terminal: container.spec.process.as_ref().is_some_and(|process| process.terminal),
            stdin: false,
            stdin_once: false,
            restore: None,
            attach: None,
            systemd: false,
            mounts_from: None,
            socket: path("socket"),
            exit: path("exit"),
            log: Some(log),
        };
        change(&mut launch);
        let document = format!("{}.launch", launch.socket);
        fs::write(&document, serde_json::to_vec(&launch)?)?;
        let mut command = Command::new(&container.runtime);
        command.args(["monitor", &document]).env(MARKER, &container.id).stdin(Stdio::null());
        let process = Running::start(&mut command, &container.output_dir())?;
        let line = wait_for(container.kit.time(10.0), || {
            let (written, _) = process.written();
            written.ends_with('\n').then_some(written)
        });
        let ready = serde_json::from_str(&line.ok_or_else(|| std::io::Error::other("the monitor did not answer"))?)?;
        let connection = matches!(ready, Ready::Pid(_)).then(|| connect(&launch.socket)).transpose()?;
        Ok(Self { process, launch, ready, connection })
    }

    /// Sends a request, and fails unless it is carried out.
    fn ask(&self, request: Request, socket: Option<&UnixStream>) -> Outcome {
        let (packet, length) = request.encode();
        let connection = self.connection.as_ref().ok_or_else(|| std::io::Error::other("there is no connection"))?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = socket.map(|socket| [socket.as_fd()]);
        if let Some(fds) = &fds {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        rustix::net::sendmsg(connection, &[IoSlice::new(&packet[..length])], &mut control, SendFlags::empty())?;
        ensure_eq!(self.receive()?, DONE, "{request:?}");
        Ok(())
    }

    fn receive(&self) -> Outcome<Vec<u8>> {
        let mut packet = [0; 512];
        let connection = self.connection.as_ref().ok_or_else(|| std::io::Error::other("there is no connection"))?;
        let got = rustix::io::read(connection, &mut packet)?;
        Ok(packet[..got].to_vec())
    }

    fn attach(&self, stdin: bool) -> Outcome<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.ask(Request::Attach { stdin, stdout: true, stderr: true }, Some(&theirs))?;
        Ok(ours)
    }

    /// Waits for the end, and fails unless connection and record tell the same.
    fn exit(mut self, container: &Container<'_>) -> Outcome<Exit> {
        let told: Exit = serde_json::from_slice(&self.receive()?)?;
        let kept: Exit = serde_json::from_slice(&fs::read(&self.launch.exit)?)?;
        ensure_eq!(told, kept, "what is told and what is kept");
        self.connection = None;
        let output = self.process.finish(container.kit.time(10.0))?;
        ensure!(output.status.success(), "the monitor: {}", output.text());
        ensure!(!Path::new(&self.launch.socket).exists(), "its socket is still there");
        Ok(told)
    }
}

fn connect(path: &str) -> Outcome<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Takes frames apart, to what was written to each stream.
fn unframe(mut bytes: &[u8]) -> Outcome<[Vec<u8>; 2]> {
    let mut streams = [Vec::new(), Vec::new()];
    while !bytes.is_empty() {
        ensure!(bytes.len() >= 8 && matches!(bytes[0], 1 | 2) && bytes[1..4] == [0; 3], "no frame: {bytes:?}");
        let length = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        ensure!(bytes.len() >= 8 + length, "a frame that is cut off");
        streams[usize::from(bytes[0]) - 1].extend_from_slice(&bytes[8..8 + length]);
        bytes = &bytes[8 + length..];
    }
    Ok(streams)
}

fn log_lines(container: &Container<'_>) -> Outcome<Vec<String>> {
    let bytes = fs::read(container.host("log"))?;
    let (mut rest, mut lines) = (&bytes[..], Vec::new());
    while let Found::Record(record, length) = first(rest) {
        ensure!(record.time > 0, "a record without a time");
        lines.push(format!("{}:{}", record.stream.number(), String::from_utf8_lossy(record.text)));
        rest = &rest[length..];
    }
    Ok(lines)
}

fn streams(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "echo", "one", "+", "no-such-command"]);
    let monitor = Monitor::start(&container, |_| {})?;
    let mut client = monitor.attach(false)?;
    container.start()?;
    let mut output = Vec::new();
    client.read_to_end(&mut output)?;
    let [out, err] = unframe(&output)?;
    let (out, err) = (String::from_utf8(out)?, String::from_utf8(err)?);
    ensure_eq!(out, "one\n", "standard output");
    ensure!(err.contains("no such command"), "standard error: {err}");
    let exit = monitor.exit(&container)?;
    ensure_eq!((exit.code, exit.oom), (90, false), "how it ended");
    ensure!(exit.finished > 0, "no time of its end");
    ensure_eq!(log_lines(&container)?, ["1:one".to_owned(), format!("2:{}", err.trim_end())], "log");
    Ok(())
}

fn slow_reader(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "stdin"]);
    let monitor = Monitor::start(&container, |launch| (launch.stdin, launch.stdin_once) = (true, true))?;
    let (mut client, mut slow) = (monitor.attach(true)?, monitor.attach(false)?);
    container.start()?;
    let text: Vec<u8> = (0..200_000).flat_map(|n: u32| format!("line {n}\n").into_bytes()).collect();
    let mut writer = client.try_clone()?;
    let sent = text.clone();
    let typing = std::thread::spawn(move || {
        writer.write_all(&sent)?;
        writer.shutdown(std::net::Shutdown::Write)
    });
    let fast = std::thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).map(|_| all)
    });
    let (mut all, mut buffer) = (Vec::new(), vec![0; 40_000]);
    loop {
        let count = slow.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        all.extend_from_slice(&buffer[..count]);
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    typing.join().map_err(|_| std::io::Error::other("the writer panicked"))??;
    let fast = fast.join().map_err(|_| std::io::Error::other("the reader panicked"))??;
    ensure!(unframe(&all)?[0] == text && unframe(&fast)?[0] == text, "output is missing");
    ensure_eq!(monitor.exit(&container)?.code, 0, "how it ended");
    ensure_eq!(log_lines(&container)?.len(), 200_000, "lines in the log");
    Ok(())
}

/// The client's socket is full and the pipe is not, so that the process ends with output that nobody has read.
fn deaf_client(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "stdin"]);
    let monitor = Monitor::start(&container, |launch| (launch.stdin, launch.stdin_once) = (true, true))?;
    let _deaf = monitor.attach(false)?;
    let (mut typist, theirs) = UnixStream::pair()?;
    monitor.ask(Request::Attach { stdin: true, stdout: false, stderr: false }, Some(&theirs))?;
    drop(theirs);
    container.start()?;
    typist.write_all(&b"123456789\n".repeat(25_000))?;
    drop(typist);
    ensure_eq!(monitor.exit(&container)?.code, 0, "how it ended");
    ensure_eq!(log_lines(&container)?.len(), 25_000, "lines in the log");
    Ok(())
}

fn input_ends(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "stdin", "+", "echo", "end"]);
    let monitor = Monitor::start(&container, |launch| launch.stdin = true)?;
    let mut client = monitor.attach(true)?;
    container.start()?;
    client.write_all(b"typed\n")?;
    client.shutdown(std::net::Shutdown::Write)?;
    // It is not for this client to end it.
    let mut frame = [0; 14];
    client.read_exact(&mut frame)?;
    ensure_eq!(&frame[8..], b"typed\n", "what came back");
    monitor.ask(Request::CloseStdin, None)?;
    ensure_eq!(monitor.exit(&container)?.code, 0, "how it ended");
    ensure_eq!(log_lines(&container)?, ["1:typed", "1:end"], "log");
    Ok(())
}

fn terminal(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.process_mut().terminal = true;
    container.spec.set_args(&["/init", "wait-file", "/go", "+", "tty", "+", "exit", "3"]);
    let monitor = Monitor::start(&container, |launch| launch.stdin = true)?;
    let mut client = monitor.attach(true)?;
    container.start()?;
    monitor.ask(Request::Resize { rows: 44, columns: 123 }, None)?;
    fs::write(container.rootfs("/go"), "")?;
    let mut output = String::new();
    client.read_to_string(&mut output)?;
    for part in ["\"rows\":44", "\"columns\":123", "\"streams\":[true,true,true]"] {
        ensure!(output.contains(part), "{part} is not in {output}");
    }
    ensure_eq!(monitor.exit(&container)?.code, 3, "how it ended");
    Ok(())
}

fn further_process(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "sleep", "60"]);
    let monitor = Monitor::start(&container, |_| {})?;
    container.start()?;
    let mut process = container.spec.process_mut().clone();
    process.args = words(&["/init", "stdin", "+", "exit", "7"]);
    let path = |name: &str| container.host(name).display().to_string();
    let further = Monitor::start(&container, |launch| {
        launch.exec = Some(process.clone());
        (launch.socket, launch.exit, launch.log) = (path("further"), path("further.exit"), None);
        (launch.stdin, launch.stdin_once) = (true, true);
    })?;
    let mut client = further.attach(true)?;
    client.write_all(b"in")?;
    client.shutdown(std::net::Shutdown::Write)?;
    let mut output = Vec::new();
    client.read_to_end(&mut output)?;
    ensure_eq!(unframe(&output)?[0], b"in", "output");
    ensure_eq!(further.exit(&container)?.code, 7, "how it ended");
    container.kill("KILL")?;
    ensure_eq!(monitor.exit(&container)?.code, 137, "how the container ended");
    Ok(())
}

fn killed(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "echo", "here", "+", "sleep", "60"]);
    let monitor = Monitor::start(&container, |_| {})?;
    let Ready::Pid(pid) = monitor.ready else { return fail("it is not ready") };
    // Signals are not for the monitor to hand on, nor to die of.
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let own = Pid::from_raw(monitor.process.pid()).ok_or_else(|| std::io::Error::other("it has no id"))?;
        kill_process(own, signal)?;
    }
    container.start()?;
    ensure_eq!(container.pid()?, pid, "process id");
    let log = || log_lines(&container).ok().filter(|lines| lines.len() == 1);
    ensure!(wait_for(kit.time(5.0), log).is_some(), "nothing is logged while it runs");
    container.kill("KILL")?;
    ensure_eq!(monitor.exit(&container)?.code, 137, "how it ended");
    ensure!(!container.state_root().join(&container.id).exists(), "the container is still recorded");
    Ok(())
}

fn failed_creation(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.set_args(&["/no/such/program"]);
    let monitor = Monitor::start(&container, |_| {})?;
    let Ready::Error(text) = &monitor.ready else { return fail("it was made") };
    ensure!(text.contains("/no/such/program"), "why: {text}");
    let output = monitor.process.finish(kit.time(5.0))?;
    ensure_eq!(output.code(), 1, "status of the monitor");
    ensure!(!container.host("exit").exists(), "there is an exit record of nothing");
    ensure!(!container.host("socket").exists(), "there is a socket of nobody");
    Ok(())
}

/// What the runtime warns of while the process is made goes to the engine, not to the process's log.
fn warnings(kit: &Kit) -> Outcome {
    let mut container = kit.container()?;
    container.spec.process_mut().capabilities = Some(gantry_testkit::spec::caps(&["CAP_NONSENSE"]));
    container.spec.set_args(&["/init", "echo", "one"]);
    let monitor = Monitor::start(&container, |_| {})?;
    ensure!(monitor.process.written().1.contains("CAP_NONSENSE"), "no warning: {:?}", monitor.process.written());
    container.start()?;
    ensure_eq!(monitor.exit(&container)?.code, 0, "how it ended");
    ensure_eq!(log_lines(&container)?, ["1:one"], "log");
    Ok(())
}

fn bad_launch(kit: &Kit) -> Outcome {
    let container = kit.container()?;
    for (name, text) in [("absent", None), ("broken", Some("{")), ("incomplete", Some("{}"))] {
        let path = container.host(name);
        if let Some(text) = text {
            fs::write(&path, text)?;
        }
        let mut command = Command::new(&container.runtime);
        command.arg("monitor").arg(&path).env(MARKER, &container.id);
        let output = gantry_testkit::command::run(&mut command, &container.output_dir(), kit.time(5.0))?;
        ensure_eq!(output.code(), 1, "{name}");
        let ready: Ready = serde_json::from_str(&output.stdout)?;
        ensure!(matches!(&ready, Ready::Error(text) if text.contains(name)), "{name}: {ready:?}");
    }
    Ok(())
}

/// A monitor is there for each container: what it holds for itself alone counts. Its executable they all share.
fn small(kit: &Kit) -> Outcome {
    const MOST: u64 = 700;
    let mut container = kit.container()?;
    container.spec.set_args(&["/init", "stdin"]);
    let monitor = Monitor::start(&container, |launch| (launch.stdin, launch.stdin_once) = (true, true))?;
    let mut client = monitor.attach(true)?;
    container.start()?;
    client.write_all(&b"a line of text\n".repeat(1000))?;
    let mut frames = vec![0; 15_000];
    client.read_exact(&mut frames)?;
    let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", monitor.process.pid()))?;
    // Not what is private and dirty: pages of an executable that was just built are both, until they are on the disk.
    let own = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let own = own.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
    ensure!(own > 0 && own <= MOST, "the monitor holds {own} kB for itself, at most {MOST} are meant");
    client.shutdown(std::net::Shutdown::Write)?;
    std::thread::spawn(move || client.read_to_end(&mut Vec::new()));
    ensure_eq!(monitor.exit(&container)?.code, 0, "how it ended");
    Ok(())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
