//! Completions for shells, from the table.

use std::fmt::Write as _;

use super::table::{ABOUT, COMMANDS, CommandSpec, Flag, GLOBAL, HELP, PROGRAM, VERSION};

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

impl Shell {
    /// The shell of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "bash" => Some(Self::Bash),
            "zsh" => Some(Self::Zsh),
            "fish" => Some(Self::Fish),
            _ => None,
        }
    }
}

/// The script that a shell reads.
pub fn completions(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Zsh => zsh(),
        Shell::Fish => fish(),
    }
}

/// What can stand at a place.
enum Kind {
    Words(Vec<&'static str>),
    Directories,
    Files,
    Containers,
    Commands,
    Nothing,
}

/// What a value or argument can be, by what it is called.
fn kind(name: &'static str, choices: &'static [&'static str]) -> Kind {
    if !choices.is_empty() {
        return Kind::Words(choices.to_vec());
    }
    match name {
        "DIR" => Kind::Directories,
        "FILE" | "SOCKET" => Kind::Files,
        "CONTAINER" => Kind::Containers,
        "[COMMAND]" => Kind::Commands,
        name if name.contains('|') => Kind::Words(name.split('|').collect()),
        _ => Kind::Nothing,
    }
}

fn shown(flags: &'static [Flag]) -> impl Iterator<Item = &'static Flag> {
    flags.iter().filter(|f| !f.hidden)
}

fn dashed(flags: impl Iterator<Item = &'static Flag>) -> String {
    let mut out = Vec::new();
    for flag in flags {
        out.push(format!("--{}", flag.long));
        out.extend(flag.short.map(|c| format!("-{c}")));
    }
    out.join(" ")
}

/// All commands that can be shown, and the whole of their flags.
fn command_names() -> String {
    COMMANDS.iter().map(|c| c.name).collect::<Vec<_>>().join(" ")
}

fn bash_kind(kind: &Kind) -> String {
    match kind {
        Kind::Words(words) => format!("COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", words.join(" ")),
        Kind::Directories => "COMPREPLY=($(compgen -d -- \"$cur\"))".to_owned(),
        Kind::Files => "COMPREPLY=($(compgen -f -- \"$cur\"))".to_owned(),
        Kind::Containers => {
            format!("COMPREPLY=($(compgen -W \"$({PROGRAM} \"${{root[@]}}\" list -q 2>/dev/null)\" -- \"$cur\"))")
        }
        Kind::Commands => format!("COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", command_names()),
        Kind::Nothing => "COMPREPLY=()".to_owned(),
    }
}

/// Cases over the flags that take a value, for the word before the one that is completed.
fn bash_values(out: &mut String, command: &str, flags: impl Iterator<Item = &'static Flag>) {
    for flag in flags {
        let Some(value) = flag.value else { continue };
        let letter = flag.short.map(|c| format!("|\"{command} -{c}\"")).unwrap_or_default();
        let action = bash_kind(&kind(value, flag.choices));
        // Flags for every command follow any of them.
        let place = if command.is_empty() { "*\" ".to_owned() } else { format!("\"{command} ") };
        let _ = writeln!(out, "    {place}--{}\"{letter}) {action}; return ;;", flag.long);
    }
}

/// A case before those of the global flags for the switches that have the name of one.
fn bash_hiding() -> Vec<String> {
    let global = |f: &Flag| f.value.is_none() && GLOBAL.iter().any(|g| g.long == f.long);
    let hiding = |c: &'static CommandSpec| c.flags.iter().filter(move |f| global(f)).map(|f| (c.name, f.long));
    COMMANDS.iter().flat_map(hiding).map(|(command, long)| format!("\"{command} --{long}\"")).collect()
}

fn bash() -> String {
    let mut out = format!("# bash completion of {PROGRAM}\n_gantry_oci() {{\n");
    out.push_str(
        "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} cmd= word i nargs=0\n  \
         local -a root=()\n  \
         for ((i = 1; i < COMP_CWORD; i++)); do\n    \
         word=${COMP_WORDS[i]}\n    \
         case \"$cmd $word\" in\n",
    );
    // Skips the values of flags, so that the arguments are counted.
    let mut skips = Vec::new();
    for flag in shown(GLOBAL).filter(|f| f.value.is_some()) {
        skips.push(format!("*\" --{}\"", flag.long));
    }
    for command in COMMANDS {
        for flag in shown(command.flags).filter(|f| f.value.is_some()) {
            skips.push(format!("\"{} --{}\"", command.name, flag.long));
            skips.extend(flag.short.map(|c| format!("\"{} -{c}\"", command.name)));
        }
    }
    let hiding = bash_hiding().join("|");
    let _ = writeln!(out, "      {hiding}) ;;");
    let _ = writeln!(out, "      *\" --root\") root=(--root \"${{COMP_WORDS[i+1]}}\"); ((i++)) ;;");
    let _ = writeln!(out, "      {}) ((i++)) ;;", skips.join("|"));
    out.push_str(
        "      *\" -\"*) ;;\n      \
         \" \"*) cmd=$word ;;\n      \
         *) ((nargs++)) ;;\n    \
         esac\n  \
         done\n  \
         case \"$cmd $prev\" in\n",
    );
    let _ = writeln!(out, "    {hiding}) ;;");
    for command in COMMANDS {
        bash_values(&mut out, command.name, shown(command.flags));
    }
    bash_values(&mut out, "", shown(GLOBAL));
    out.push_str("  esac\n  if [[ $cur == -* ]]; then\n    case \"$cmd\" in\n");
    let global = dashed(shown(GLOBAL).chain([&HELP]));
    let _ = writeln!(out, "    '') COMPREPLY=($(compgen -W '{global} --version -v' -- \"$cur\")) ;;");
    for command in COMMANDS {
        let flags = dashed(shown(command.flags).chain([&HELP]));
        let _ = writeln!(out, "    {}) COMPREPLY=($(compgen -W '{flags}' -- \"$cur\")) ;;", command.name);
    }
    out.push_str("    esac\n    return\n  fi\n  case \"$cmd $nargs\" in\n");
    let _ = writeln!(out, "    ' 0') {} ;;", bash_kind(&Kind::Commands));
    for command in COMMANDS {
        for (at, argument) in command.arguments.iter().enumerate() {
            let _ = writeln!(out, "    '{} {at}') {} ;;", command.name, bash_kind(&kind(argument, &[])));
        }
    }
    let _ = writeln!(out, "  esac\n}}\ncomplete -F _gantry_oci {PROGRAM}");
    out
}

/// Text inside single quotes and brackets of a zsh specification.
fn zsh_text(text: &str) -> String {
    text.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:").replace('\'', "'\\''")
}

fn zsh_kind(kind: &Kind) -> String {
    match kind {
        Kind::Words(words) => format!("({})", words.join(" ")),
        Kind::Directories => "_files -/".to_owned(),
        Kind::Files => "_files".to_owned(),
        Kind::Containers => "_gantry_oci_containers".to_owned(),
        Kind::Commands => format!("({})", command_names()),
        Kind::Nothing => " ".to_owned(),
    }
}

fn zsh_flag(out: &mut String, flag: &'static Flag) {
    let text = zsh_text(flag.help);
    let value =
        flag.value.map(|v| format!(":{}:{}", zsh_text(v), zsh_kind(&kind(v, flag.choices)))).unwrap_or_default();
    let star = if flag.repeats { "*" } else { "" };
    for name in [Some(format!("--{}", flag.long)), flag.short.map(|c| format!("-{c}"))].into_iter().flatten() {
        let _ = writeln!(out, "      '{star}{name}[{text}]{value}' \\");
    }
}

fn zsh() -> String {
    let mut out = format!("#compdef {PROGRAM}\n");
    let _ = write!(
        out,
        "_gantry_oci_containers() {{\n  local -a ids\n  ids=(${{(f)\"$({PROGRAM} list -q 2>/dev/null)\"}})\n  \
         compadd -a ids\n}}\n_gantry_oci() {{\n  local context state line\n  typeset -A opt_args\n  _arguments -C \\\n"
    );
    for flag in shown(GLOBAL).chain([&HELP, &VERSION]) {
        zsh_flag(&mut out, flag);
    }
    out.push_str("      '1:command:->command' '*::argument:->argument'\n  case $state in\n  command)\n    local -a commands\n    commands=(\n");
    for command in COMMANDS {
        let _ = writeln!(out, "      '{}:{}'", command.name, zsh_text(command.about));
    }
    out.push_str("    )\n    _describe command commands ;;\n  argument)\n    case $words[1] in\n");
    for command in COMMANDS {
        let _ = writeln!(out, "    {})\n      _arguments \\", command.name);
        for flag in shown(command.flags).chain([&HELP]) {
            zsh_flag(&mut out, flag);
        }
        for (at, argument) in command.arguments.iter().enumerate() {
            let place = if argument.contains("...") { "*".to_owned() } else { (at + 1).to_string() };
            let optional = if argument.starts_with('[') && place != "*" { ":" } else { "" };
            let _ = writeln!(
                out,
                "      '{place}:{optional}{}:{}' \\",
                zsh_text(argument.trim_matches(['[', ']', '.'])),
                zsh_kind(&kind(argument, &[]))
            );
        }
        out.push_str("      && return ;;\n");
    }
    let _ = write!(out, "    esac ;;\n  esac\n}}\n_gantry_oci \"$@\"\n");
    out
}

fn fish_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn fish_kind(kind: &Kind) -> String {
    match kind {
        Kind::Words(words) => format!(" -x -a {}", fish_text(&words.join(" "))),
        Kind::Directories => " -x -a '(__fish_complete_directories)'".to_owned(),
        Kind::Files => " -r -F".to_owned(),
        Kind::Containers => format!(" -x -a '({PROGRAM} list -q 2>/dev/null)'"),
        Kind::Commands => format!(" -x -a '{}'", command_names()),
        Kind::Nothing => " -x".to_owned(),
    }
}

fn fish_flag(out: &mut String, condition: &str, flag: &'static Flag) {
    let letter = flag.short.map(|c| format!(" -s {c}")).unwrap_or_default();
    let value = flag.value.map(|v| fish_kind(&kind(v, flag.choices))).unwrap_or_default();
    let help = fish_text(flag.help);
    let _ = writeln!(out, "complete -c {PROGRAM}{condition} -l {}{letter}{value} -d {help}", flag.long);
}

fn fish_command(out: &mut String, spec: &'static CommandSpec) {
    let condition = format!(" -n '__fish_seen_subcommand_from {}'", spec.name);
    for flag in shown(spec.flags) {
        fish_flag(out, &condition, flag);
    }
    for argument in spec.arguments {
        match kind(argument, &[]) {
            Kind::Nothing => {}
            kind => {
                let _ = writeln!(out, "complete -c {PROGRAM}{condition}{}", fish_kind(&kind));
            }
        }
    }
}

fn fish() -> String {
    let mut out = format!("# fish completion of {PROGRAM}: {ABOUT}\ncomplete -c {PROGRAM} -f\n");
    for flag in shown(GLOBAL).chain([&HELP]) {
        fish_flag(&mut out, "", flag);
    }
    fish_flag(&mut out, " -n __fish_use_subcommand", &VERSION);
    for command in COMMANDS {
        let about = fish_text(command.about);
        let _ = writeln!(out, "complete -c {PROGRAM} -n __fish_use_subcommand -a {} -d {about}", command.name);
    }
    for command in COMMANDS {
        fish_command(&mut out, command);
    }
    out
}
