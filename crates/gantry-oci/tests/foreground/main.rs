//! Processes in the foreground, supervised for real.
//!
//! Signal masks and the reaping of children belong to a whole process, so each case runs this program again as a
//! supervisor of a shell, and looks at it from outside, through pipes or a terminal of its own.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use gantry_oci::foreground::{Blocked, Process, exit_code, supervise};
use gantry_oci::log::{Format, Level, Log};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

type Outcome = Result<(), Box<dyn Error>>;

/// A name and what it does.
type Case = (&'static str, fn() -> Outcome);

fn main() -> ExitCode {
    // Whoever runs the tests in the background may ignore signals for them, and a shell cannot trap what it was started
    // to ignore.
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT] {
        gantry_sys::clone::default_action(signal.as_raw());
    }
    let args: Vec<String> = std::env::args().collect();
    if let Some("--supervise") = args.get(1).map(String::as_str) {
        return match supervisor(&args[2], &args[3]) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(99)
            }
        };
    }
    let filter = args.iter().skip(1).find(|a| !a.starts_with('-'));
    if args.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, case) in CASES.iter().filter(|(name, _)| filter.is_none_or(|f| name.contains(f.as_str()))) {
        match case() {
            Ok(()) => println!("test {name} ... ok"),
            Err(error) => {
                failed += 1;
                println!("test {name} ... FAILED: {error}");
            }
        }
    }
    println!("\ntest result: {failed} of {} failed", CASES.len());
    ExitCode::from(u8::from(failed > 0))
}

/// The supervisor: starts `script` in a shell as `mode` says, and exits as it does.
fn supervisor(mode: &str, script: &str) -> Result<u8, Box<dyn Error>> {
    let log = Log::stderr(Format::Text, Level::Warning, || UNIX_EPOCH);
    let blocked = Blocked::new()?;
    let mut console = None;
    // The standard library empties the mask of its children.
    let child = if mode == "tty" {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        let slave = slave_of(&master)?;
        console = Some(master);
        in_session(&slave, &["sh", "-c", script])?.spawn()?
    } else {
        if mode == "subreaper" {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        }
        Command::new("sh").args(["-c", script]).spawn()?
    };
    let pid = if mode == "stranger" {
        rustix::process::getppid().ok_or("no parent")?
    } else {
        Pid::from_raw(child.id() as i32).ok_or("no child")?
    };
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let process = Process { pid: pid.as_raw_nonzero().get(), pidfd: pidfd.as_fd() };
    Ok(exit_code(supervise(&blocked, process, console, &log)?))
}

/// A command whose terminal, stdio and session are the other end of a terminal's master.
fn in_session(slave: &OwnedFd, command: &[&str]) -> std::io::Result<Command> {
    let mut out = Command::new("setsid");
    out.arg("--ctty").args(command);
    out.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave.try_clone()?);
    Ok(out)
}

fn slave_of(master: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    rustix::pty::unlockpt(master)?;
    rustix::pty::ioctl_tiocgptpeer(master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
}

/// A supervisor under test; killed when dropped.
struct Supervisor(Child);

impl Supervisor {
    fn command(mode: &str, script: &str) -> Result<Command, Box<dyn Error>> {
        let mut out = Command::new(std::env::current_exe()?);
        out.args(["--supervise", mode, script]);
        Ok(out)
    }

    /// With pipes for stdin and stdout.
    fn piped(mode: &str, script: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Self::command(mode, script)?;
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }

    fn signal(&self, signal: Signal) -> Outcome {
        Ok(kill_process(Pid::from_raw(self.0.id() as i32).ok_or("no pid")?, signal)?)
    }

    /// Reads its stdout up to and with `word`.
    fn read_to(&mut self, word: &str) -> Result<String, Box<dyn Error>> {
        let stdout = self.0.stdout.as_mut().ok_or("no stdout")?;
        read_to(stdout, word)
    }

    /// Its exit code, within ten seconds.
    fn code(&mut self) -> Result<i32, Box<dyn Error>> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("it did not end in time".into())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // What it supervises would hold the pipes of the tests open.
        let pid = self.0.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let _ = self.0.kill();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            let _ = Pid::from_raw(child).map(|child| kill_process(child, Signal::KILL));
        }
        let _ = self.0.wait();
    }
}

fn read_to(from: &mut impl Read, word: &str) -> Result<String, Box<dyn Error>> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(word.as_bytes()) {
        if from.read(&mut byte)? == 0 {
            return Err(format!("ended before {word:?}: {:?}", String::from_utf8_lossy(&text)).into());
        }
        text.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn expect<T: PartialEq + std::fmt::Debug>(got: &T, expect: &T) -> Outcome {
    if got == expect { Ok(()) } else { Err(format!("got {got:?}, expected {expect:?}").into()) }
}

/// Runs `script` to its end, with signals sent once it wrote "ready", and compares the exit code.
fn check(mode: &str, script: &str, signals: &[Signal], code: i32) -> Outcome {
    let mut supervisor = Supervisor::piped(mode, script)?;
    if !signals.is_empty() {
        supervisor.read_to("ready")?;
    }
    for signal in signals {
        supervisor.signal(*signal)?;
        std::thread::sleep(Duration::from_millis(50));
    }
    expect(&supervisor.code()?, &code)
}

const IDLE: &str = "echo ready; while :; do sleep 0.02; done";

const CASES: &[Case] = &[
    ("code", || check("plain", "exit 7", &[], 7)),
    ("code_tty", || check("tty", "exit 7", &[], 7)),
    ("killed", || check("plain", "kill -9 $$", &[], 137)),
    ("killed_tty", || check("tty", "kill -9 $$", &[], 137)),
    ("term", || check("plain", &format!("trap 'exit 5' TERM; {IDLE}"), &[Signal::TERM], 5)),
    ("quit_untrapped", || check("plain", &format!("exec sh -c '{IDLE}'"), &[Signal::HUP], 129)),
    ("not_forwarded", || {
        let script = format!("trap 'exit 9' URG WINCH; trap 'exit 6' USR1; {IDLE}");
        check("plain", &script, &[Signal::URG, Signal::WINCH, Signal::USR1], 6)
    }),
    ("stopped_is_not_ended", || {
        let script = format!("trap 'exit 6' USR1; sh -c 'kill -STOP $PPID; sleep 0.1; kill -CONT $PPID'; {IDLE}");
        check("plain", &script, &[Signal::USR1], 6)
    }),
    ("signal_before_it_listens", || {
        // Sent to a supervisor that has hardly begun: it is kept, or ends the supervisor before there is a process.
        let mut supervisor = Supervisor::piped("plain", &format!("trap 'exit 5' TERM; {IDLE}"))?;
        supervisor.signal(Signal::TERM)?;
        let code = supervisor.code()?;
        if [5, 143, -15].contains(&code) { Ok(()) } else { Err(format!("code {code}").into()) }
    }),
    ("orphans_are_reaped", || {
        let zombies = "(true &); (true &); sleep 0.2; cat /proc/$PPID/task/$PPID/children | wc -w";
        let mut supervisor = Supervisor::piped("subreaper", zombies)?;
        // The shell alone is left.
        expect(&supervisor.read_to("\n")?.trim(), &"1")?;
        expect(&supervisor.code()?, &0)
    }),
    ("stranger", || check("stranger", "true", &[], 99)),
    ("tty_output_is_whole", || {
        let mut supervisor = Supervisor::piped("tty", "seq 50000; exit 3")?;
        let mut text = String::new();
        supervisor.0.stdout.take().ok_or("no stdout")?.read_to_string(&mut text)?;
        let whole = (1..=50000).map(|n| n.to_string()).collect::<Vec<_>>().join("\n") + "\n";
        expect(&(text == whole, text.len()), &(true, whole.len()))?;
        expect(&supervisor.code()?, &3)
    }),
    ("tty_slow_reader", || {
        let mut supervisor = Supervisor::piped("tty", "head -c 300000 /dev/zero | tr '\\0' x; exit 3")?;
        std::thread::sleep(Duration::from_millis(300));
        let mut text = Vec::new();
        supervisor.0.stdout.take().ok_or("no stdout")?.read_to_end(&mut text)?;
        expect(&text.len(), &300_000)?;
        expect(&supervisor.code()?, &3)
    }),
    ("tty_reader_gone", || {
        let mut supervisor = Supervisor::piped("tty", "seq 50000; exit 3")?;
        supervisor.read_to("1")?;
        drop(supervisor.0.stdout.take());
        expect(&supervisor.code()?, &3)
    }),
    ("tty_reader_stuck_is_given_up", || {
        let mut supervisor =
            Supervisor::piped("tty", "sleep 0.2; head -c 80000 /dev/zero | tr '\\0' x & sleep 0.5; exit 3")?;
        std::thread::sleep(Duration::from_millis(900));
        expect(&supervisor.0.try_wait()?.is_none(), &true)?;
        supervisor.signal(Signal::TERM)?;
        expect(&supervisor.code()?, &3)
    }),
    ("tty_input_is_whole", || {
        let mut supervisor = Supervisor::piped("tty", "stty raw -echo; echo ready; head -c 300000 | wc -c")?;
        supervisor.read_to("ready")?;
        let mut stdin = supervisor.0.stdin.take().ok_or("no stdin")?;
        stdin.write_all(&vec![b'x'; 300_000])?;
        drop(stdin);
        supervisor.read_to("300000")?;
        expect(&supervisor.code()?, &0)
    }),
    ("tty_half_closed", || {
        let mut supervisor = Supervisor::piped("tty", "sleep 0.3; echo still here; exit 2")?;
        drop(supervisor.0.stdin.take());
        supervisor.read_to("still here")?;
        expect(&supervisor.code()?, &2)
    }),
    ("tty_held_by_others", || {
        let start = Instant::now();
        check("tty", "trap '' HUP; (sleep 2 &); echo done; exit 4", &[], 4)?;
        expect(&(start.elapsed() < Duration::from_millis(1500)), &true)
    }),
    ("tty_opened_again", || {
        let script = "t=$(tty); exec <&- >&- 2>&-; sleep 0.3; exec >$t; echo again; sleep 0.3; exit 2";
        let mut supervisor = Supervisor::piped("tty", &format!("exec sh -c '{script}'"))?;
        supervisor.read_to("again")?;
        expect(&supervisor.code()?, &2)
    }),
    ("terminal", terminal),
    ("terminal_after_kill", || {
        let mut outer = Outer::new(IDLE)?;
        outer.read_to("ready")?;
        let cooked = outer.cooked()?;
        outer.inner.signal(Signal::TERM)?;
        expect(&outer.inner.code()?, &143)?;
        expect(&(cooked, outer.cooked()?), &(false, true))
    }),
    ("terminal_interrupt", || {
        let mut outer = Outer::new(&format!("trap 'exit 8' INT; {IDLE}"))?;
        outer.read_to("ready")?;
        outer.master.write_all(b"\x03")?;
        expect(&outer.inner.code()?, &8)
    }),
    ("terminal_resize", || {
        let mut outer = Outer::new(&format!("trap 'stty size; exit 0' WINCH; {IDLE}"))?;
        outer.read_to("ready")?;
        tcsetwinsize(&outer.master, size(40, 100))?;
        outer.read_to("40 100")?;
        expect(&outer.inner.code()?, &0)
    }),
];

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// A supervisor whose own stdin, stdout and stderr are a terminal, in a session of its own.
struct Outer {
    inner: Supervisor,
    master: File,
    slave: OwnedFd,
}

impl Outer {
    fn new(script: &str) -> Result<Self, Box<dyn Error>> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        let slave = slave_of(&master)?;
        tcsetwinsize(&master, size(33, 77))?;
        let program = std::env::current_exe()?;
        let program = program.to_str().ok_or("this program's path is no text")?;
        let child = in_session(&slave, &[program, "--supervise", "tty", script])?.spawn()?;
        Ok(Self { inner: Supervisor(child), master: master.into(), slave })
    }

    fn read_to(&mut self, word: &str) -> Result<String, Box<dyn Error>> {
        read_to(&mut self.master, word)
    }

    /// Whether the terminal edits lines, as it does unless somebody made it raw.
    fn cooked(&self) -> Result<bool, Box<dyn Error>> {
        Ok(tcgetattr(&self.slave)?.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO))
    }
}

/// Typing, output, size and exit code through two terminals, and the outer one as before afterwards.
fn terminal() -> Outcome {
    let mut outer = Outer::new("echo ready; read x; echo \"got $x\"; stty size; tty; exit 4")?;
    let before = outer.cooked();
    outer.read_to("ready\r\n")?;
    expect(&(before?, outer.cooked()?), &(true, false))?;
    outer.master.write_all(b"hello\r")?;
    // The inner terminal echoes, once, and ends lines, once.
    let said = outer.read_to("/dev/pts/")?;
    expect(&said.as_str(), &"hello\r\ngot hello\r\n33 77\r\n/dev/pts/")?;
    expect(&outer.inner.code()?, &4)?;
    expect(&outer.cooked()?, &true)
}
