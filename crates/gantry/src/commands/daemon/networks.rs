//! The group `network`.

use std::net::IpAddr;

use serde_json::{Map, Value as Json, json};

use super::{filters, inspect};
use crate::cli::container::Prune;
use crate::cli::network::{Command, Connect, Create, Disconnect, List, Remove};
use crate::client::{Request, Target};
use crate::context::Context;
use crate::create;
use crate::create::pairs::map;
use crate::failure::{Failure, Outcome, clean};
use crate::prompt;
use crate::render::networks::{NETWORKS, networks};
use crate::template::Value;
use crate::terminal;

/// Carries a command of the group out.
pub fn run(context: &Context, command: &Command) -> Outcome {
    match command {
        Command::Connect(args) => connect(context, args),
        Command::Create(args) => make(context, args),
        Command::Disconnect(args) => disconnect(context, args),
        Command::Inspect(args) => inspect::networks(context, args),
        Command::Ls(args) => list(context, args),
        Command::Prune(args) => prune(context, args),
        Command::Rm(args) => remove(context, args),
    }
}

fn make(context: &Context, args: &Create) -> Outcome {
    let body = body(args).map_err(Failure::Usage)?;
    context.ask(async |client| {
        let made = client.json(Request::post(Target::new(&["networks", "create"])).json(&body)).await?;
        let warning = made.text("Warning");
        if !warning.is_empty() {
            terminal::tell(&clean(&format!("WARNING: {warning}\n")));
        }
        terminal::print(&format!("{}\n", made.text("Id")))
    })
}

/// The body of `POST /networks/create`.
fn body(args: &Create) -> Result<Json, String> {
    if args.config_only && args.config_from.is_some() {
        return Err("--config-only and --config-from exclude each other".to_owned());
    }
    let mut document = json!({
        "Name": args.name,
        "Driver": args.driver,
        "Options": map(&args.opt),
        "IPAM": {"Driver": args.ipam_driver, "Options": map(&args.ipam_opt), "Config": pools(args)?},
        "Internal": args.internal,
        "EnableIPv6": args.ipv6,
        "Attachable": args.attachable,
        "Ingress": args.ingress,
        "Scope": args.scope.clone().unwrap_or_default(),
        "ConfigOnly": args.config_only,
        "Labels": map(&args.label),
    });
    if let Some(from) = &args.config_from {
        document["ConfigFrom"] = json!({"Network": from});
    }
    Ok(document)
}

/// A subnet: its address and the bits that count.
fn subnet(text: &str) -> Option<(u128, u32, bool)> {
    let (address, bits) = text.split_once('/')?;
    let (address, six) = number(address.parse().ok()?);
    let bits: u32 = bits.parse().ok()?;
    (bits <= if six { 128 } else { 32 }).then_some((address, bits, six))
}

const fn number(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(address) => (address.to_bits() as u128, false),
        IpAddr::V6(address) => (address.to_bits(), true),
    }
}

/// Whether an address is in a subnet.
fn contains((base, bits, six): (u128, u32, bool), (address, other_six): (u128, bool)) -> bool {
    let width = if six { 128 } else { 32 };
    let shift = width - bits;
    six == other_six && (shift == 128 || base >> shift == address >> shift)
}

/// A subnet, and what the API is told of it.
type Pool = ((u128, u32, bool), Map<String, Json>);

/// What belongs to each subnet: its range, its gateway, and further addresses.
fn pools(args: &Create) -> Result<Json, String> {
    if args.subnet.len() < args.ip_range.len() || args.subnet.len() < args.gateway.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut pools: Vec<Pool> = Vec::new();
    for text in &args.subnet {
        let read = subnet(text).ok_or_else(|| format!("invalid subnet {text}: write ADDRESS/BITS, as 10.1.0.0/16"))?;
        if pools.iter().any(|(other, _)| contains(*other, (read.0, read.2)) || contains(read, (other.0, other.2))) {
            return Err("multiple overlapping subnet configuration is not supported".to_owned());
        }
        pools.push((read, Map::from_iter([("Subnet".to_owned(), text.clone().into())])));
    }
    for text in &args.ip_range {
        let range = subnet(text).ok_or_else(|| format!("invalid ip-range {text}: write ADDRESS/BITS"))?;
        put(&mut pools, (range.0, range.2), "IPRange", text, "range")?;
    }
    for text in &args.gateway {
        let address: IpAddr = text.parse().map_err(|_| format!("invalid gateway {text}"))?;
        put(&mut pools, number(address), "Gateway", text, "gateway")?;
    }
    for (name, text) in map(&args.aux_address) {
        let address: IpAddr = text.parse().map_err(|_| format!("invalid aux-address {name}={text}"))?;
        let pool = pools.iter_mut().find(|(subnet, _)| contains(*subnet, number(address)));
        let (_, pool) = pool.ok_or_else(|| format!("no matching subnet for aux-address {text}"))?;
        let all = pool.entry("AuxiliaryAddresses").or_insert_with(|| json!({}));
        all[name] = text.into();
    }
    Ok(pools.into_iter().map(|(_, pool)| Json::Object(pool)).collect())
}

fn put(pools: &mut [Pool], address: (u128, bool), key: &str, text: &str, what: &str) -> Result<(), String> {
    let pool = pools.iter_mut().find(|(subnet, _)| contains(*subnet, address));
    let (_, pool) = pool.ok_or_else(|| format!("no matching subnet for {what} {text}"))?;
    match pool.insert(key.to_owned(), text.to_owned().into()) {
        Some(_) => Err(format!("cannot configure multiple {what}s ({text}) on the same subnet")),
        None => Ok(()),
    }
}

fn list(context: &Context, args: &List) -> Outcome {
    let asked = args.output.form(args.quiet, "networksFormat");
    let asked = asked.as_deref();
    let form = NETWORKS.form(if args.quiet && asked.is_none() { Some("{{.ID}}") } else { asked })?;
    let target = Target::new(&["networks"]).maybe("filters", filters::encode(&args.filter)?.as_deref());
    context.ask(async |client| {
        let found = client.json(Request::get(target)).await?;
        if args.output.json {
            return terminal::print(&(serde_json::to_string(&found)? + "\n"));
        }
        let mut found: Vec<Value> = found.items().to_vec();
        found.sort_by(|a, b| natural(a.text("Name"), b.text("Name")));
        let width = terminal::width().filter(|_| !args.no_trunc);
        terminal::print(&NETWORKS.render(&form, &networks(&found, args.no_trunc), width)?)
    })
}

/// The order of names in which 2 stands before 10.
pub fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let split = |text: &str| {
        let digits = text.starts_with(|c: char| c.is_ascii_digit());
        let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
        (text[..end].to_owned(), text[end..].to_owned())
    };
    let (mut a, mut b) = (a.to_owned(), b.to_owned());
    while !a.is_empty() && !b.is_empty() {
        let ((one, a_rest), (two, b_rest)) = (split(&a), split(&b));
        let order = match (one.parse::<u64>(), two.parse::<u64>()) {
            (Ok(one), Ok(two)) => one.cmp(&two),
            _ => one.cmp(&two),
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    a.len().cmp(&b.len())
}

fn connect(context: &Context, args: &Connect) -> Outcome {
    let list = |all: &[String]| if all.is_empty() { Json::Null } else { json!(all) };
    for link in &args.link {
        create::link(link).map_err(Failure::Usage)?;
    }
    let endpoint = json!({
        "IPAMConfig": {
            "IPv4Address": args.ip.clone().unwrap_or_default(),
            "IPv6Address": args.ip6.clone().unwrap_or_default(),
            "LinkLocalIPs": list(&args.link_local_ip),
        },
        "Links": list(&args.link),
        "Aliases": list(&args.alias),
        "DriverOpts": map(&args.driver_opt),
    });
    let body = json!({"Container": args.container, "EndpointConfig": endpoint});
    context.ask(async |client| {
        client.bytes(Request::post(Target::new(&["networks", &args.network, "connect"])).json(&body)).await.map(drop)
    })
}

fn disconnect(context: &Context, args: &Disconnect) -> Outcome {
    let body = json!({"Container": args.container, "Force": args.force});
    context.ask(async |client| {
        client.bytes(Request::post(Target::new(&["networks", &args.network, "disconnect"])).json(&body)).await.map(drop)
    })
}

fn remove(context: &Context, args: &Remove) -> Outcome {
    context.ask(async |client| {
        let mut failed = false;
        for name in &args.names {
            match client.bytes(Request::delete(Target::new(&["networks", name]))).await {
                Ok(_) => terminal::print(&format!("{name}\n"))?,
                Err(failure) if args.force && failure.not_found() => {}
                Err(failure @ Failure::Daemon { .. }) => {
                    failed = true;
                    terminal::tell(&clean(&format!("{}\n", failure.text())));
                }
                Err(failure) => return Err(failure),
            }
        }
        // Docker's status is the same.
        if failed { Err(Failure::Status(1)) } else { Ok(()) }
    })
}

fn prune(context: &Context, args: &Prune) -> Outcome {
    let filters = filters::encode(&args.filter)?;
    let warning = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?";
    if !args.force && !prompt::confirm(warning)? {
        return Ok(());
    }
    context.ask(async |client| {
        let target = Target::new(&["networks", "prune"]).maybe("filters", filters.as_deref());
        let done = client.json(Request::post(target)).await?;
        let (text, _) = filters::pruned(&done, "Deleted Networks:", "NetworksDeleted");
        terminal::print(&text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    #[test]
    fn subnets() {
        let check = |line: &str, expect: &str| {
            let words = ["create"].into_iter().chain(line.split(' ').filter(|word| !word.is_empty())).chain(["net"]);
            let got = pools(&Line::try_parse_from(words).unwrap().create);
            assert_eq!(got.map_or_else(|why| format!("!{why}"), |value| value.to_string()), expect, "{line}");
        };
        check("", "[]");
        check(
            "--subnet 10.1.0.0/16 --ip-range 10.1.2.0/24 --gateway 10.1.0.1 --aux-address a=10.1.0.9",
            r#"[{"AuxiliaryAddresses":{"a":"10.1.0.9"},"Gateway":"10.1.0.1","IPRange":"10.1.2.0/24","Subnet":"10.1.0.0/16"}]"#,
        );
        check(
            "--subnet 10.1.0.0/16,fd00::/64 --gateway fd00::1",
            r#"[{"Subnet":"10.1.0.0/16"},{"Gateway":"fd00::1","Subnet":"fd00::/64"}]"#,
        );
        check("--gateway 10.1.0.1", "!every ip-range or gateway must have a corresponding subnet");
        check("--subnet 10.1.0.0/16 --gateway 10.2.0.1", "!no matching subnet for gateway 10.2.0.1");
        check("--subnet x", "!invalid subnet x: write ADDRESS/BITS, as 10.1.0.0/16");
        check("--subnet 10.0.0.0/33", "!invalid subnet 10.0.0.0/33: write ADDRESS/BITS, as 10.1.0.0/16");
        check("--subnet 10.0.0.0/8,10.1.0.0/16", "!multiple overlapping subnet configuration is not supported");
        check("--subnet ::/0 --gateway 1.2.3.4", "!no matching subnet for gateway 1.2.3.4");
    }

    #[test]
    fn order_of_names() {
        let mut names = ["b10", "b2", "a", "b", "b2a"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["a", "b", "b2", "b2a", "b10"]);
    }
}
