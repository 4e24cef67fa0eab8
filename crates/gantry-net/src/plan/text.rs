//! Rules as text, in the language of nft(8), for people and for tests.

use std::fmt::{self, Display, Formatter};

use super::rules::{Chain, Element, Family, Hook, Kind, Match, Rule, Ruleset, Set, Statement, Type, Value};

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "ip",
            Self::Ipv6 => "ip6",
        })
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(name) => write!(f, "{name:?}"),
            Self::Address(address) => address.fmt(f),
            Self::Block(block) => block.fmt(f),
            Self::Protocol(protocol) => protocol.fmt(f),
            Self::Port(port) => port.fmt(f),
        }
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&joined(&self.key))?;
        if self.data.is_empty() { Ok(()) } else { write!(f, " : {}", joined(&self.data)) }
    }
}

impl Display for Ruleset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {} {{", self.family, self.table)?;
        for set in &self.sets {
            write_set(f, set, self.family)?;
        }
        for chain in &self.chains {
            write_chain(f, chain, self.family)?;
        }
        writeln!(f, "}}")
    }
}

fn write_set(f: &mut Formatter<'_>, set: &Set, family: Family) -> fmt::Result {
    let types = |types: &[Type]| types.iter().map(|one| type_name(*one, family)).collect::<Vec<_>>().join(" . ");
    let kind = if set.data.is_empty() { "set" } else { "map" };
    write!(f, "\t{kind} {} {{\n\t\ttype {}", set.name, types(set.key))?;
    if !set.data.is_empty() {
        write!(f, " : {}", types(set.data))?;
    }
    writeln!(f)?;
    if set.key.contains(&Type::Block) {
        writeln!(f, "\t\tflags interval")?;
    }
    if !set.elements.is_empty() {
        writeln!(f, "\t\telements = {{ {} }}", separated(&set.elements, ", "))?;
    }
    writeln!(f, "\t}}")
}

fn write_chain(f: &mut Formatter<'_>, chain: &Chain, family: Family) -> fmt::Result {
    writeln!(f, "\tchain {} {{", chain.name)?;
    if let Some(base) = chain.base {
        let kind = match base.kind {
            Kind::Filter => "filter",
            Kind::Nat => "nat",
        };
        let hook = match base.hook {
            Hook::Prerouting => "prerouting",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        writeln!(f, "\t\ttype {kind} hook {hook} priority {}; policy accept;", base.priority)?;
    }
    for rule in &chain.rules {
        writeln!(f, "\t\t{}", rule_text(rule, family))?;
    }
    writeln!(f, "\t}}")
}

fn rule_text(rule: &Rule, family: Family) -> String {
    let mut words: Vec<String> = rule.when.iter().map(|one| match_text(one, family)).collect();
    words.push(statement_text(&rule.then, family));
    words.join(" ")
}

fn match_text(one: &Match, family: Family) -> String {
    match one {
        Match::Local => "fib daddr type local".to_owned(),
        Match::Established => "ct state established,related".to_owned(),
        Match::Diverted => "ct status dnat".to_owned(),
        Match::From(set) => format!("iifname @{set}"),
        Match::To(set) => format!("oifname @{set}"),
        Match::Between(set) => format!("iifname . oifname @{set}"),
        Match::NotBetween(set) => format!("iifname . oifname != @{set}"),
        Match::Returning(set) => format!("{family} saddr . oifname @{set}"),
        Match::Source(block) => format!("{family} saddr {block}"),
        Match::Destination(block) => format!("{family} daddr {block}"),
        Match::NotDestination(block) => format!("{family} daddr != {block}"),
        Match::ToPort(protocol, port) => format!("{protocol} dport {port}"),
        Match::FromPort(protocol, port) => format!("{protocol} sport {port}"),
    }
}

fn statement_text(statement: &Statement, family: Family) -> String {
    match statement {
        Statement::Accept => "accept".to_owned(),
        Statement::Drop => "drop".to_owned(),
        Statement::Goto(chain) => format!("goto {chain}"),
        Statement::DivertByAddress(map) => {
            format!("dnat {family} to {family} daddr . meta l4proto . th dport map @{map}")
        }
        Statement::DivertByPort(map) => format!("dnat {family} to meta l4proto . th dport map @{map}"),
        Statement::Masquerade => "masquerade".to_owned(),
        Statement::SetToPort(protocol, port) => format!("{protocol} dport set {port}"),
        Statement::SetFromPort(protocol, port) => format!("{protocol} sport set {port}"),
    }
}

fn type_name(one: Type, family: Family) -> &'static str {
    match (one, family) {
        (Type::Device, _) => "ifname",
        (Type::Address | Type::Block, Family::Ipv4) => "ipv4_addr",
        (Type::Address | Type::Block, Family::Ipv6) => "ipv6_addr",
        (Type::Protocol, _) => "inet_proto",
        (Type::Port, _) => "inet_service",
    }
}

fn joined(values: &[Value]) -> String {
    separated(values, " . ")
}

fn separated<T: Display>(values: &[T], separator: &str) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}
