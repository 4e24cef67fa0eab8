//! The AppArmor profile that containers have unless they ask for another.
//!
//! The kernel takes profiles only as its parser compiles them, so the parser's program loads it (`apparmor_parser -Kr`,
//! which replaces and keeps nothing on the disk). Nothing is done where the kernel has no AppArmor. Other programs may
//! unload profiles, so it is looked at before each start whether ours is there.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the engine calls its profile.
pub const NAME: &str = "gantry-default";

/// How long the parser may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a file of the kernel, and of what the parser says.
const MAX: u64 = 4 << 20;

/// Why the profile cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a program.
    #[error("{what}: {source}")]
    Io {
        /// What was done to which.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The parser refused.
    #[error("load the AppArmor profile {name}: {parser} failed: {cause}", parser = parser.display())]
    Parser {
        /// The profile.
        name: String,
        /// The program.
        parser: PathBuf,
        /// What it said.
        cause: String,
    },
}

/// Whether containers can have the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It is loaded.
    Loaded,
    /// The kernel has no AppArmor, or it is off.
    None,
    /// The kernel has AppArmor, and there is no program that compiles profiles: containers go without.
    NoParser,
}

/// Where AppArmor is on a host.
#[derive(Clone, Debug)]
pub struct Places {
    /// The parameter that says whether it is on.
    pub enabled: PathBuf,
    /// The list of loaded profiles.
    pub profiles: PathBuf,
    /// The profile of this process.
    pub own: PathBuf,
    /// Shared parts of profiles.
    pub parts: PathBuf,
    /// Where the parser may be.
    pub parsers: Vec<PathBuf>,
}

impl Default for Places {
    fn default() -> Self {
        let parsers = ["/sbin/apparmor_parser", "/usr/sbin/apparmor_parser", "/usr/local/sbin/apparmor_parser"];
        Self {
            enabled: "/sys/module/apparmor/parameters/enabled".into(),
            profiles: "/sys/kernel/security/apparmor/profiles".into(),
            own: "/proc/self/attr/current".into(),
            parts: "/etc/apparmor.d".into(),
            parsers: parsers.map(PathBuf::from).to_vec(),
        }
    }
}

/// Loads the profile unless it is there.
///
/// # Errors
/// The list of profiles cannot be read, or the parser fails.
pub fn ensure(name: &str, places: &Places) -> Result<Support, Error> {
    let enabled = fs::read_to_string(&places.enabled).is_ok_and(|text| text.starts_with('Y'));
    if !enabled || !places.profiles.exists() {
        return Ok(Support::None);
    }
    if is_loaded(&read(&places.profiles)?, name) {
        return Ok(Support::Loaded);
    }
    let Some(parser) = places.parsers.iter().find(|path| path.is_file()) else { return Ok(Support::NoParser) };
    let has = |part: &str| places.parts.join(part).is_file();
    let parts = Parts { abi: has("abi/3.0"), tunables: has("tunables/global"), base: has("abstractions/base") };
    let own = fs::read_to_string(&places.own).unwrap_or_default();
    load(parser, name, &text(name, label(&own), parts))?;
    Ok(Support::Loaded)
}

/// Whether a profile is in the kernel's list, whose lines are `NAME (MODE)`.
fn is_loaded(list: &str, name: &str) -> bool {
    list.lines().any(|line| label(line) == name)
}

/// The profile in `NAME (MODE)`.
fn label(context: &str) -> &str {
    let context = context.trim_end_matches(['\n', '\0']);
    context.strip_suffix(')').and_then(|rest| rest.rsplit_once(" (")).map_or(context, |(name, _)| name)
}

/// Which shared parts of profiles the host has.
#[derive(Clone, Copy, Default)]
struct Parts {
    abi: bool,
    tunables: bool,
    base: bool,
}

/// What containers are kept from. The last word is what is denied: w and k, l and x are writing, locking, linking and
/// executing. Patterns know no "all but", so a name is kept out letter by letter.
const DENIED: [(&str, &str); 14] = [
    // Files of procfs itself, and its directories but those of processes and sys.
    ("@{PROC}/*", "w"),
    ("@{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/**", "w"),
    // Of sys only kernel/shm*.
    ("@{PROC}/sys/[^k]**", "w"),
    ("@{PROC}/sys/kernel/{?,??,[^s][^h][^m]**}", "w"),
    ("@{PROC}/sysrq-trigger", "rwklx"),
    ("@{PROC}/kcore", "rwklx"),
    // Of sysfs only fs/cgroup.
    ("/sys/[^f]*/**", "wklx"),
    ("/sys/f[^s]*/**", "wklx"),
    ("/sys/fs/[^c]*/**", "wklx"),
    ("/sys/fs/c[^g]*/**", "wklx"),
    ("/sys/fs/cg[^r]*/**", "wklx"),
    ("/sys/firmware/**", "rwklx"),
    ("/sys/devices/virtual/powercap/**", "rwklx"),
    ("/sys/kernel/security/**", "rwklx"),
];

/// The profile's source. Pure.
fn text(name: &str, own: &str, parts: Parts) -> String {
    let mut text = String::with_capacity(2048);
    // Of rules for networks, later versions mean something else.
    if parts.abi {
        text.push_str("abi <abi/3.0>,\n");
    }
    text.push_str(if parts.tunables { "#include <tunables/global>\n" } else { "@{PROC}=/proc/\n" });
    let _ = writeln!(text, "profile \"{name}\" flags=(attach_disconnected,mediate_deleted) {{");
    if parts.base {
        text.push_str("  #include <abstractions/base>\n");
    }
    text.push_str("  network,\n  deny network alg,\n  capability,\n  file,\n  umount,\n  deny mount,\n");
    // Who may send signals into a container: the host, the runtimes, and this program.
    let mut senders = vec!["unconfined", "runc", "crun"];
    if !own.is_empty() && !senders.contains(&own) && own.bytes().all(|b| (b' '..0x7f).contains(&b) && b != b'"') {
        senders.push(own);
    }
    for sender in senders {
        let _ = writeln!(text, "  signal (receive) peer=\"{sender}\",");
    }
    let _ = writeln!(text, "  signal (send,receive) peer=\"{name}\",");
    let _ = writeln!(text, "  ptrace (trace,tracedby,read,readby) peer=\"{name}\",");
    for (path, access) in DENIED {
        let _ = writeln!(text, "  deny {path} {access},");
    }
    text.push_str("}\n");
    text
}

fn load(parser: &Path, name: &str, text: &str) -> Result<(), Error> {
    let what = || format!("run {}", parser.display());
    let io = |source| Error::Io { what: what(), source };
    let mut command = Command::new(parser);
    command.arg("-Kr").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(io)?;
    // It is shorter than a pipe is long. A parser that does not read it says why.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(text.as_bytes());
    }
    let ended = ended(&mut child);
    if !matches!(ended, Ok(Some(_))) {
        let _ = child.kill();
        let _ = child.wait();
    }
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(MAX).read_to_string(&mut said);
    }
    let fail = |cause: String| Err(Error::Parser { name: name.to_owned(), parser: parser.to_owned(), cause });
    match ended.map_err(io)? {
        Some(status) if status.success() => Ok(()),
        Some(_) if !said.trim().is_empty() => fail(said.trim().to_owned()),
        Some(status) => fail(status.to_string()),
        None => fail(format!("it did not end within {} s", PATIENCE.as_secs())),
    }
}

/// Waits for a program, within measure.
fn ended(child: &mut Child) -> std::io::Result<Option<std::process::ExitStatus>> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(None)
}

fn read(path: &Path) -> Result<String, Error> {
    let io = |source| Error::Io { what: format!("read {}", path.display()), source };
    let mut text = String::new();
    fs::File::open(path).and_then(|file| file.take(MAX).read_to_string(&mut text)).map_err(io)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        let check = |context: &str, expect: &str| assert_eq!(label(context), expect, "{context:?}");
        check("unconfined\n", "unconfined");
        check("gantry-default (enforce)\n", "gantry-default");
        check("a b (c) (complain)", "a b (c)");
        check("odd)", "odd)");
        check("", "");
        let check = |list: &str, expect| assert_eq!(is_loaded(list, "gantry-default"), expect, "{list:?}");
        check("docker-default (enforce)\ngantry-default (enforce)\n", true);
        check("gantry-default-2 (enforce)\n", false);
        check("", false);
    }

    #[test]
    fn source() {
        let check = |own: &str, parts: Parts, has: &[&str], lacks: &[&str]| {
            let text = text("p", own, parts);
            assert_eq!(text.matches('{').count(), text.matches('}').count(), "{text}");
            assert!(has.iter().all(|part| text.contains(part)), "{has:?} in {text}");
            assert!(!lacks.iter().any(|part| text.contains(part)), "{lacks:?} in {text}");
        };
        let all = Parts { abi: true, tunables: true, base: true };
        check("unconfined", all, &["abi <abi/3.0>,", "<tunables/global>", "<abstractions/base>"], &["@{PROC}="]);
        check(
            "",
            Parts::default(),
            &["@{PROC}=/proc/", "deny mount,", "peer=\"p\""],
            &["include", "abi <", "peer=\"\""],
        );
        check("my daemon", all, &["signal (receive) peer=\"my daemon\","], &[]);
        check("evil\",\n capability", all, &[], &["evil"]);
    }

    /// A host with AppArmor, made of files and a parser that remembers what it was given.
    struct Fake(PathBuf, Places);

    impl Fake {
        fn new(name: &str, script: &str) -> Self {
            use std::os::unix::fs::PermissionsExt as _;
            let dir = std::env::temp_dir().join(format!("gantry-apparmor-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            let places = Places {
                enabled: dir.join("enabled"),
                profiles: dir.join("profiles"),
                own: dir.join("own"),
                parts: dir.join("parts"),
                parsers: vec![dir.join("nothing"), dir.join("parser")],
            };
            fs::write(&places.enabled, "Y\n").unwrap();
            fs::write(&places.profiles, "other (enforce)\n").unwrap();
            fs::write(dir.join("parser"), format!("#!/bin/sh\ncd {}\n{script}\n", dir.display())).unwrap();
            fs::set_permissions(dir.join("parser"), fs::Permissions::from_mode(0o755)).unwrap();
            Self(dir, places)
        }

        fn ensure(&self) -> String {
            match ensure(NAME, &self.1) {
                Ok(support) => format!("{support:?}"),
                Err(error) => error.to_string().replace(&self.0.display().to_string(), "DIR"),
            }
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn loaded_once() {
        let fake = Fake::new("once", "cat > given; echo $1 >> runs; echo 'gantry-default (enforce)' >> profiles");
        assert_eq!([fake.ensure(), fake.ensure()], ["Loaded", "Loaded"]);
        assert_eq!(fs::read_to_string(fake.0.join("runs")).unwrap(), "-Kr\n");
        assert!(fs::read_to_string(fake.0.join("given")).unwrap().contains("profile \"gantry-default\""));
    }

    #[test]
    fn not_to_be_had() {
        let fake = Fake::new("not", "cat > /dev/null; echo no such luck >&2; exit 3");
        assert_eq!(fake.ensure(), "load the AppArmor profile gantry-default: DIR/parser failed: no such luck");
        fs::remove_file(fake.0.join("parser")).unwrap();
        assert_eq!(fake.ensure(), "NoParser");
        fs::write(&fake.1.enabled, "N\n").unwrap();
        assert_eq!(fake.ensure(), "None");
        fs::remove_file(&fake.1.enabled).unwrap();
        assert_eq!(fake.ensure(), "None");
    }
}
