//! The table of commands and flags. Parser, help, completions and man pages are all read from it, so that none of
//! them can know a flag that the others do not.

/// What the command line is called.
pub const PROGRAM: &str = "gantry-oci";

/// What the program does, in a line.
pub const ABOUT: &str = "OCI runtime: runs containers from bundles";

/// A flag.
#[derive(Debug)]
pub struct Flag {
    /// Name after two dashes; after one dash it is taken too, as programs written for runc pass it.
    pub long: &'static str,
    /// Letter after one dash.
    pub short: Option<char>,
    /// What the value is called in help; absent for a switch.
    pub value: Option<&'static str>,
    /// The values there are, where the set is closed.
    pub choices: &'static [&'static str],
    /// Whether every occurrence counts; otherwise the last one does.
    pub repeats: bool,
    /// Whether it is left out of help: taken for the sake of callers, without a use of its own.
    pub hidden: bool,
    /// What it does, in a line.
    pub help: &'static str,
}

/// A command.
#[derive(Debug)]
pub struct CommandSpec {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Its arguments as help shows them; one in brackets may be left out, one with dots takes all that follow.
    pub arguments: &'static [&'static str],
    /// Whether everything after the first argument is taken as it is, dashes or not.
    pub raw: bool,
    /// What there is to know beyond the flags, for the man page and the command's help.
    pub detail: &'static str,
    /// Its flags.
    pub flags: &'static [Flag],
}

impl CommandSpec {
    /// How many arguments the command needs.
    pub fn least_arguments(&self) -> usize {
        self.arguments.iter().filter(|a| !a.starts_with('[')).count()
    }

    /// How many arguments the command takes; absent if any number.
    pub fn most_arguments(&self) -> Option<usize> {
        let endless = self.arguments.last().is_some_and(|a| a.contains("..."));
        (!endless).then_some(self.arguments.len())
    }
}

/// Finds a command by its name.
pub fn command(name: &str) -> Option<&'static CommandSpec> {
    COMMANDS.iter().find(|c| c.name == name)
}

impl Flag {
    const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    const fn choices(mut self, choices: &'static [&'static str]) -> Self {
        self.choices = choices;
        self
    }

    const fn repeats(mut self) -> Self {
        self.repeats = true;
        self
    }

    const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }
}

const fn switch(long: &'static str, help: &'static str) -> Flag {
    Flag { long, short: None, value: None, choices: &[], repeats: false, hidden: false, help }
}

const fn value(long: &'static str, name: &'static str, help: &'static str) -> Flag {
    Flag { value: Some(name), ..switch(long, help) }
}

/// Asks for help; every command knows it.
pub static HELP: Flag = switch("help", "show this help and exit").short('h');

/// Asks for the version; known before the command only.
pub static VERSION: Flag = switch("version", "show the version and exit").short('v');

/// The second letter that asks for the version.
pub static VERSION_CAPITAL: Flag = switch("version", "show the version and exit").short('V').hidden();

/// Flags of every command, before or after its name.
pub static GLOBAL: &[Flag] = &[
    value("root", "DIR", "keep the state of containers in DIR, best on a tmpfs"),
    value("log", "FILE", "append messages to FILE; also file:FILE, syslog:IDENT or journald:IDENT"),
    value("log-format", "FORMAT", "write messages as text (the default) or json").choices(&["text", "json"]),
    value("log-level", "LEVEL", "write messages from LEVEL up: error, warning (the default) or debug")
        .choices(&["error", "warning", "debug"]),
    switch("debug", "write debug messages, as --log-level debug"),
    switch("systemd-cgroup", "let systemd make the cgroup; cgroupsPath is then slice:prefix:name"),
    value("cgroup-manager", "MANAGER", "make cgroups by systemd, by cgroupfs (the default), or not: disabled")
        .choices(&["systemd", "cgroupfs", "disabled"]),
    value("rootless", "BOOL", "go on where cgroups may not be changed: true, false or auto (the default)")
        .choices(&["true", "false", "auto"]),
    value("criu", "FILE", "ignored: criu is found by PATH").hidden(),
];

const BUNDLE: Flag =
    value("bundle", "DIR", "directory of config.json and the root file system (default: the current one)").short('b');
const CONFIG: Flag = value("config", "FILE", "read the configuration from FILE instead of the bundle").short('f');
const CONSOLE_SOCKET: Flag =
    value("console-socket", "SOCKET", "send the terminal's master end over the unix socket at SOCKET");
const PIDFD_SOCKET: Flag =
    value("pidfd-socket", "SOCKET", "send a pidfd of the process over the unix socket at SOCKET");
const PID_FILE: Flag = value("pid-file", "FILE", "write the process id to FILE");
const NO_PIVOT: Flag = switch("no-pivot", "move the root mount instead of pivot_root, for roots on a ramdisk");
const NO_NEW_KEYRING: Flag = switch("no-new-keyring", "keep the caller's session keyring");
const PRESERVE_FDS: Flag = value("preserve-fds", "N", "hand on N descriptors beyond stdio and $LISTEN_FDS");
const DETACH: Flag = switch("detach", "return once the process runs, without waiting for it").short('d');
const NO_SUBREAPER: Flag = switch("no-subreaper", "do not adopt orphans of the container");
const REGEX: Flag = switch("regex", "take CONTAINER as a regular expression over all containers").short('r');
const FORMAT: Flag =
    value("format", "FORMAT", "write a table (the default) or json").short('f').choices(&["table", "json"]);

const IMAGE_PATH: Flag = value("image-path", "DIR", "directory of CRIU's images (default: ./checkpoint)");
const WORK_PATH: Flag = value("work-path", "DIR", "directory of CRIU's logs and working files");
const TCP_ESTABLISHED: Flag = switch("tcp-established", "allow established TCP connections");
const EXT_UNIX_SK: Flag = switch("ext-unix-sk", "allow unix sockets with an end outside");
const SHELL_JOB: Flag = switch("shell-job", "allow a session and terminal from outside");
const LAZY_PAGES: Flag = switch("lazy-pages", "move memory on demand, by userfaultfd");
const FILE_LOCKS: Flag = switch("file-locks", "allow file locks");
const MANAGE_CGROUPS: Flag =
    value("manage-cgroups-mode", "MODE", "how CRIU treats cgroups: soft, full, strict or ignore")
        .choices(&["soft", "full", "strict", "ignore"]);
const EMPTY_NS: Flag =
    value("empty-ns", "KIND", "leave the contents of this kind of namespace to others").choices(&["network"]).repeats();
const AUTO_DEDUP: Flag = switch("auto-dedup", "drop pages from older images as newer ones hold them");
const NETWORK_LOCK: Flag = value("network-lock", "METHOD", "how the network is held still: iptables, nftables or skip")
    .choices(&["iptables", "nftables", "skip"]);

/// The commands, in the order in which help lists them.
pub static COMMANDS: &[CommandSpec] = &[
    CommandSpec {
        name: "create",
        about: "make a container, ready to start",
        arguments: &["CONTAINER"],
        raw: false,
        detail: "Makes everything that config.json asks for, up to the program itself, which `start` starts. The \
                 name must be new under --root.",
        flags: &[
            BUNDLE,
            CONFIG,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            PID_FILE,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            NO_SUBREAPER.hidden(),
        ],
    },
    CommandSpec {
        name: "start",
        about: "start the program of a created container",
        arguments: &["CONTAINER"],
        raw: false,
        detail: "",
        flags: &[],
    },
    CommandSpec {
        name: "run",
        about: "make a container and start it, then wait and delete it",
        arguments: &["CONTAINER"],
        raw: false,
        detail: "In the foreground, signals are handed on to the container's process, its terminal is wired to this \
                 one, and its exit status becomes the command's: the program's code, or 128 and the number of the \
                 signal that ended it.",
        flags: &[
            BUNDLE,
            CONFIG,
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            DETACH,
            switch("keep", "keep the container when its process has ended"),
            PID_FILE,
            NO_SUBREAPER,
            NO_PIVOT,
            NO_NEW_KEYRING,
            PRESERVE_FDS,
            switch("dry-run", "write the steps that would be taken, and take none"),
        ],
    },
    CommandSpec {
        name: "exec",
        about: "run a further process in a container",
        arguments: &["CONTAINER", "[COMMAND...]"],
        raw: true,
        detail: "The process is that of config.json with the changes that the flags ask for, or the one that the \
                 file of --process describes; the other flags about the process are then without effect.",
        flags: &[
            CONSOLE_SOCKET,
            PIDFD_SOCKET,
            value("cwd", "DIR", "working directory inside the container"),
            value("env", "NAME=VALUE", "add a variable to the environment").short('e').repeats(),
            switch("tty", "give the process a terminal").short('t'),
            value("user", "UID[:GID]", "run as this user, and group").short('u'),
            value("additional-gids", "GID", "add a group").short('g').repeats(),
            value("process", "FILE", "read the process from FILE, JSON as config.json's process").short('p'),
            DETACH,
            PID_FILE,
            value("process-label", "LABEL", "SELinux label of the process"),
            value("apparmor", "PROFILE", "AppArmor profile of the process"),
            switch("no-new-privs", "never let exec add privileges"),
            value("cap", "CAP", "add a capability").short('c').repeats(),
            PRESERVE_FDS,
            value("cgroup", "[CONTROLLERS:]PATH", "run in a cgroup below the container's").repeats(),
            switch("ignore-paused", "go on in a paused container"),
        ],
    },
    CommandSpec {
        name: "kill",
        about: "send a signal to a container's process",
        arguments: &["CONTAINER", "[SIGNAL]"],
        raw: true,
        detail: "SIGNAL is a name, with or without SIG, or a number; it is TERM by default.",
        flags: &[switch("all", "send it to every process of the container").short('a'), REGEX],
    },
    CommandSpec {
        name: "delete",
        about: "remove what a container holds",
        arguments: &["CONTAINER"],
        raw: false,
        detail: "A container that still runs is deleted by --force alone, which kills it first.",
        flags: &[switch("force", "kill the container first if it runs; no error if there is none").short('f'), REGEX],
    },
    CommandSpec {
        name: "state",
        about: "write a container's state, JSON",
        arguments: &["CONTAINER"],
        raw: false,
        detail: "",
        flags: &[],
    },
    CommandSpec {
        name: "list",
        about: "list the containers",
        arguments: &[],
        raw: false,
        detail: "",
        flags: &[FORMAT, switch("quiet", "write names alone").short('q')],
    },
    CommandSpec {
        name: "ps",
        about: "list the processes of a container",
        arguments: &["CONTAINER", "[PS OPTIONS...]"],
        raw: true,
        detail: "The options go to ps(1); without any it is called with -ef.",
        flags: &[FORMAT],
    },
    CommandSpec {
        name: "pause",
        about: "freeze the processes of a container",
        arguments: &["CONTAINER"],
        raw: false,
        detail: "",
        flags: &[],
    },
    CommandSpec {
        name: "resume",
        about: "thaw the processes of a container",
        arguments: &["CONTAINER"],
        raw: false,
        detail: "",
        flags: &[],
    },
    CommandSpec {
        name: "update",
        about: "change the limits of a container",
        arguments: &["CONTAINER"],
        raw: false,
        detail: "SIZE is a number of bytes, with a suffix b, k, m, g, t or p of powers of 1024; -1 is unlimited. With \
                 --resources, the other limits of the command line are without effect, but for Intel RDT.",
        flags: &[
            value(
                "resources",
                "FILE",
                "read the limits from FILE, or from stdin for -: JSON as config.json's resources",
            )
            .short('r'),
            value("blkio-weight", "N", "block I/O weight, 10 to 1000"),
            value("cpu-period", "USEC", "period of the CPU quota; 0 is the kernel's default"),
            value("cpu-quota", "USEC", "CPU time in each period; -1 is unlimited"),
            value("cpu-burst", "USEC", "CPU time that may be saved up for a burst"),
            value("cpu-share", "N", "CPU weight against other containers, 2 to 262144"),
            value("cpu-rt-period", "USEC", "period of the realtime quota"),
            value("cpu-rt-runtime", "USEC", "realtime CPU time in each period"),
            value("cpuset-cpus", "LIST", "CPUs to run on, as 0-3,7"),
            value("cpuset-mems", "LIST", "memory nodes to use"),
            value("cpu-idle", "N", "1 for idle scheduling, 0 for none"),
            value("memory", "SIZE", "memory limit"),
            value("memory-reservation", "SIZE", "soft memory limit"),
            value("memory-swap", "SIZE", "limit of memory and swap together"),
            value("kernel-memory", "SIZE", "no longer in the kernel").hidden(),
            value("kernel-memory-tcp", "SIZE", "no longer in the kernel").hidden(),
            value("pids-limit", "N", "most tasks; -1 is unlimited"),
            value("l3-cache-schema", "LINE", "Intel RDT: L3 cache line of the schemata"),
            value("mem-bw-schema", "LINE", "Intel RDT: memory bandwidth line of the schemata"),
        ],
    },
    CommandSpec {
        name: "events",
        about: "write statistics and out-of-memory events, a JSON object a line",
        arguments: &["CONTAINER"],
        raw: false,
        detail: "DURATION is a number with a unit, as 500ms, 5s or 1m30s.",
        flags: &[
            value("interval", "DURATION", "time between statistics (default: 5s)"),
            switch("stats", "write the statistics once and exit"),
        ],
    },
    CommandSpec {
        name: "features",
        about: "write what this runtime can do, JSON",
        arguments: &[],
        raw: false,
        detail: "",
        flags: &[],
    },
    CommandSpec {
        name: "spec",
        about: "write a configuration to start from",
        arguments: &[],
        raw: false,
        detail: "Writes config.json, which must not exist yet. It runs `sh` in the root file system `rootfs` beside \
                 it.",
        flags: &[
            value("bundle", "DIR", "directory to write to (default: the current one)").short('b'),
            value("file", "FILE", "write to FILE instead of config.json, replacing it").short('f'),
            switch("rootless", "for a container of the calling user, without root"),
        ],
    },
    CommandSpec {
        name: "checkpoint",
        about: "save a running container, by CRIU",
        arguments: &["CONTAINER"],
        raw: false,
        detail: "",
        flags: &[
            IMAGE_PATH,
            WORK_PATH,
            value("parent-path", "DIR", "directory of the previous images, relative to --image-path"),
            value(
                "commit-to",
                "DIR",
                "rename --image-path to DIR when it is whole; if that fails, the container runs on",
            ),
            switch("leave-running", "let the container run on"),
            TCP_ESTABLISHED,
            switch("tcp-skip-in-flight", "leave out TCP connections that are not established yet"),
            switch("link-remap", "link unlinked files back where possible"),
            EXT_UNIX_SK,
            SHELL_JOB,
            LAZY_PAGES,
            value("status-fd", "FD", "descriptor that CRIU writes a NUL byte to when --lazy-pages is ready"),
            value("page-server", "ADDRESS:PORT", "send memory to the page server there"),
            FILE_LOCKS,
            switch("pre-dump", "save memory alone, and let the container run on"),
            MANAGE_CGROUPS,
            EMPTY_NS,
            AUTO_DEDUP,
            NETWORK_LOCK,
        ],
    },
    CommandSpec {
        name: "restore",
        about: "make a container from what checkpoint saved",
        arguments: &["CONTAINER"],
        raw: false,
        detail: "",
        flags: &[
            CONSOLE_SOCKET,
            IMAGE_PATH,
            WORK_PATH,
            TCP_ESTABLISHED,
            switch("tcp-close", "restore established TCP connections as closed"),
            EXT_UNIX_SK,
            SHELL_JOB,
            FILE_LOCKS,
            MANAGE_CGROUPS,
            BUNDLE,
            DETACH,
            PID_FILE,
            NO_SUBREAPER,
            NO_PIVOT,
            EMPTY_NS,
            AUTO_DEDUP,
            LAZY_PAGES,
            value("lsm-profile", "TYPE:NAME", "use this LSM profile instead of the saved one"),
            value("lsm-mount-context", "CONTEXT", "use this LSM context for mounts instead of the saved one"),
            NETWORK_LOCK,
        ],
    },
    CommandSpec {
        name: "mounts",
        about: "add mounts to a running container, or remove them",
        arguments: &["add|remove", "CONTAINER", "FILE"],
        raw: false,
        detail: "FILE is a JSON list of mounts as in config.json.",
        flags: &[],
    },
    CommandSpec {
        name: "completions",
        about: "write the completions of a shell",
        arguments: &["bash|zsh|fish"],
        raw: false,
        detail: "",
        flags: &[],
    },
    CommandSpec {
        name: "man",
        about: "write a man page, roff",
        arguments: &["[COMMAND]"],
        raw: false,
        detail: "",
        flags: &[],
    },
    CommandSpec {
        name: "help",
        about: "show help, of a command if one is named",
        arguments: &["[COMMAND]"],
        raw: false,
        detail: "",
        flags: &[],
    },
];
