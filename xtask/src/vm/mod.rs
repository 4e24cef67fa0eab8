//! The VM lane: the runtime on a host that this one is not.
//!
//! Debian's cloud kernel boots under qemu with a small Debian on its disk: cgroup v2 alone, AppArmor or SELinux, and
//! systemd if asked. A command runs there with what we built, and its output, status and files come back.

mod boot;
mod image;
mod payload;
pub mod suite;

use crate::built::Binary;
use crate::{dist, sh};
use anyhow::{Context, Result, bail};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// How the machine starts: which security module is in force, and what the first process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// No security module; a shell script is the first process.
    Plain,
    /// AppArmor, Debian's default.
    AppArmor,
    /// SELinux with Debian's default policy, permissive.
    SeLinux,
    /// AppArmor again, with systemd as the first process.
    Systemd,
}

impl Boot {
    /// Every way to start, in the order of the suite.
    pub const ALL: [Self; 4] = [Self::Plain, Self::AppArmor, Self::SeLinux, Self::Systemd];

    /// Its name on our command line and in the environment of the guest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::AppArmor => "apparmor",
            Self::SeLinux => "selinux",
            Self::Systemd => "systemd",
        }
    }

    /// What it adds to the kernel's command line.
    fn kernel_arguments(self) -> &'static str {
        match self {
            Self::Plain => "apparmor=0 lsm=capability,landlock,yama,bpf",
            Self::AppArmor => "apparmor=1",
            // Masked: what takes long and is of no use to a machine that lives for a minute.
            Self::Systemd => {
                "apparmor=1 systemd.mask=apparmor.service systemd.mask=ldconfig.service \
                 systemd.mask=systemd-journal-catalog-update.service systemd.mask=systemd-update-done.service \
                 systemd.mask=systemd-sysusers.service systemd.mask=systemd-journal-flush.service"
            }
            Self::SeLinux => "security=selinux selinux=1 enforcing=0",
        }
    }

    fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|boot| boot.name() == name);
        found.with_context(|| format!("no boot is called {name:?}; there are plain, apparmor, selinux and systemd"))
    }
}

/// What was asked on the command line.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    boot: Boot,
    /// Memory of the machine, in MiB.
    memory: u32,
    /// After how many seconds the machine is ended.
    timeout: u64,
    /// Whether gantry-oci is built and put in.
    build: bool,
    /// More files for the search path of the guest.
    with: Vec<PathBuf>,
    /// The command and its arguments, a shell's line if it is one word.
    command: Vec<String>,
}

const USAGE: &str = "\
usage: cargo xtask vm [--boot plain|apparmor|selinux|systemd] [--memory MIB] [--timeout SECONDS]
                      [--with FILE]... [--no-build] -- COMMAND ...
       cargo xtask vm test [BOOT ...]     the whole suite, in every boot or in those named
       cargo xtask vm image               only make the kernel and the disk
       cargo xtask vm remove              remove them

The command finds the project at its own path, gantry-oci and the files named by --with in PATH, and may leave files in
$GANTRY_RESULTS, which come back in target/vm/BOOT/results. With --no-build, gantry-oci is not built and not put in.
GANTRY_VM_DIR says where the disk is kept (/var/tmp/gantry-vm); GANTRY_VM_ACCEL=kvm or tcg
overrides the choice of accelerator.
";

/// `cargo xtask vm`.
pub fn main(args: &[String]) -> Result<ExitCode> {
    match args.first().map(String::as_str) {
        None | Some("help" | "--help" | "-h") => {
            eprint!("{USAGE}");
            Ok(ExitCode::from(2))
        }
        Some("image") => {
            println!("{}", image::ensure()?.disk.display());
            Ok(ExitCode::SUCCESS)
        }
        Some("remove") => image::remove().map(|()| ExitCode::SUCCESS),
        Some("test") => {
            let boots = args[1..].iter().map(|name| Boot::parse(name)).collect::<Result<Vec<_>>>()?;
            suite::run(if boots.is_empty() { &Boot::ALL } else { &boots })
        }
        Some(_) => run_command(&parse(args)?),
    }
}

fn run_command(options: &Options) -> Result<ExitCode> {
    let image = image::ensure()?;
    let mut binaries = if options.build { vec![Binary::of_file(&dist::runtime()?)] } else { Vec::new() };
    binaries.extend(options.with.iter().map(|path| Binary::of_file(path)));
    let request = boot::Request {
        boot: options.boot,
        memory: options.memory,
        timeout: options.timeout,
        script: script(&options.command),
        binaries,
    };
    let status = boot::run(&image, &request, &mut |line| {
        let mut out = std::io::stdout().lock();
        // A reader that went away ends our output, not the machine.
        drop(out.write_all(line).and_then(|()| out.flush()));
    })?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

/// The shell script that runs a command: one word is a shell's line, several are a program and its arguments.
fn script(command: &[String]) -> String {
    match command {
        [line] => format!("{line}\n"),
        words => {
            let quoted = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
            format!("exec {}\n", quoted.collect::<Vec<_>>().join(" "))
        }
    }
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options {
        boot: Boot::AppArmor,
        memory: 1536,
        timeout: 900,
        build: true,
        with: Vec::new(),
        command: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--boot" => options.boot = Boot::parse(value()?)?,
            "--memory" => options.memory = value()?.parse().context("--memory is a number of MiB")?,
            "--timeout" => options.timeout = value()?.parse().context("--timeout is a number of seconds")?,
            "--with" => options.with.push(value()?.into()),
            "--no-build" => options.build = false,
            "--" => {
                options.command = args.cloned().collect();
                break;
            }
            other => bail!("unknown argument {other:?}\n{USAGE}"),
        }
    }
    if options.command.is_empty() {
        bail!("which command is to run? It comes after --\n{USAGE}");
    }
    Ok(options)
}

/// Where logs and results of a boot are kept.
fn logs(boot: Boot) -> PathBuf {
    sh::target_dir().join("vm").join(boot.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_command_line_is_read() {
        let options = parse(&words("--boot selinux --memory 2048 --timeout 5 --no-build --with /x -- id -u")).unwrap();
        let (with, command) = (vec!["/x".into()], words("id -u"));
        assert_eq!(options, Options { boot: Boot::SeLinux, memory: 2048, timeout: 5, build: false, with, command });
        for wrong in ["--boot dos -- id", "--memory", "--memory x -- id", "id", "--boot plain"] {
            assert!(parse(&words(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn arguments_reach_the_guest_as_they_are() {
        assert_eq!(script(&words("uname -r")), "exec 'uname' '-r'\n");
        assert_eq!(script(&["echo".into(), "it's".into()]), "exec 'echo' 'it'\\''s'\n");
        assert_eq!(script(&["echo $PATH".into()]), "echo $PATH\n");
    }
}
