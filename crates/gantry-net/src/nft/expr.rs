//! Conditions and statements as expressions, which load values into registers, compare them and act on them.

use gantry_sys::netlink::Body;

use super::{Foreign, NFTA_DATA_VALUE, NFTA_LIST_ELEM, number, octets};
use crate::Cidr;
use crate::plan::{Family, Match, Rule, Statement};
use crate::spec::Protocol;

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;

/// The register of the verdict.
const VERDICT: u32 = 0;
/// The first of the registers of four bytes each.
const WORD: u32 = 8;
/// Words that a device's name takes.
const DEVICE_WORDS: u32 = 4;

const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
/// Bits of `ct state`: established, related.
const KNOWN: u32 = 2 | 4;
/// Bit of `ct status`: the destination was changed.
const DNAT: u32 = 0x20;
/// The kind of an address that is the host's.
const RTN_LOCAL: u32 = 2;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// Where ports stand behind the transport protocol's beginning.
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const NFT_GOTO: i32 = -4;
const NFT_RETURN: i32 = -5;

/// Writes the expressions of a rule.
pub fn rule(list: &mut Body<'_>, rule: &Rule, family: Family) {
    for condition in &rule.when {
        matching(list, condition, family);
    }
    statement(list, &rule.then, family);
}

/// Writes the expressions of a rule in the form of iptables.
pub fn foreign(list: &mut Body<'_>, rule: &Foreign<'_>) {
    for (key, name) in [(META_IIFNAME, rule.from), (META_OIFNAME, rule.to)] {
        if let Some(name) = name {
            meta(list, key, WORD);
            compare(list, EQUAL, name.as_bytes());
        }
    }
    expression(list, "counter", |_| ());
    verdict(list, if rule.accept { NF_ACCEPT } else { NFT_RETURN.cast_unsigned() }, None);
}

fn matching(list: &mut Body<'_>, condition: &Match, family: Family) {
    match condition {
        Match::Local => {
            expression(list, "fib", |e| {
                const ADDRESS_TYPE: u32 = 3;
                const DESTINATION: u32 = 2;
                e.network_number(1, WORD).network_number(2, ADDRESS_TYPE).network_number(3, DESTINATION);
            });
            compare(list, EQUAL, &RTN_LOCAL.to_ne_bytes());
        }
        Match::Established => any_bit(list, CT_STATE, KNOWN),
        Match::Diverted => any_bit(list, CT_STATUS, DNAT),
        Match::From(set) => {
            meta(list, META_IIFNAME, WORD);
            lookup(list, set, None, false);
        }
        Match::To(set) => {
            meta(list, META_OIFNAME, WORD);
            lookup(list, set, None, false);
        }
        Match::Between(set) | Match::NotBetween(set) => {
            meta(list, META_IIFNAME, WORD);
            meta(list, META_OIFNAME, WORD + DEVICE_WORDS);
            lookup(list, set, None, matches!(condition, Match::NotBetween(_)));
        }
        Match::Returning(set) => {
            payload(list, NETWORK, source_offset(family), address_length(family), WORD);
            meta(list, META_OIFNAME, WORD + address_length(family) / 4);
            lookup(list, set, None, false);
        }
        Match::Source(block) => in_block(list, source_offset(family), *block, EQUAL),
        Match::Destination(block) => in_block(list, destination_offset(family), *block, EQUAL),
        Match::NotDestination(block) => in_block(list, destination_offset(family), *block, NOT_EQUAL),
        Match::ToPort(protocol, port) => port_is(list, *protocol, DESTINATION_PORT, *port),
        Match::FromPort(protocol, port) => port_is(list, *protocol, SOURCE_PORT, *port),
    }
}

fn statement(list: &mut Body<'_>, statement: &Statement, family: Family) {
    match statement {
        Statement::Accept => verdict(list, NF_ACCEPT, None),
        Statement::Drop => verdict(list, NF_DROP, None),
        Statement::Goto(chain) => verdict(list, NFT_GOTO.cast_unsigned(), Some(chain)),
        Statement::DivertByAddress(map) => {
            let words = address_length(family) / 4;
            payload(list, NETWORK, destination_offset(family), address_length(family), WORD);
            meta(list, META_L4PROTO, WORD + words);
            payload(list, TRANSPORT, DESTINATION_PORT, 2, WORD + words + 1);
            lookup(list, map, Some(WORD), false);
            divert(list, family);
        }
        Statement::DivertByPort(map) => {
            meta(list, META_L4PROTO, WORD);
            payload(list, TRANSPORT, DESTINATION_PORT, 2, WORD + 1);
            lookup(list, map, Some(WORD), false);
            divert(list, family);
        }
        Statement::Masquerade => expression(list, "masq", |_| ()),
        Statement::SetToPort(protocol, port) => set_port(list, *protocol, DESTINATION_PORT, *port),
        Statement::SetFromPort(protocol, port) => set_port(list, *protocol, SOURCE_PORT, *port),
    }
}

fn expression(list: &mut Body<'_>, name: &str, write: impl FnOnce(&mut Body<'_>)) {
    list.nest(NFTA_LIST_ELEM, |element| {
        element.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, write);
    });
}

fn meta(list: &mut Body<'_>, key: u32, register: u32) {
    expression(list, "meta", |e| {
        e.network_number(1, register).network_number(2, key);
    });
}

fn payload(list: &mut Body<'_>, base: u32, offset: u32, length: u32, register: u32) {
    expression(list, "payload", |e| {
        e.network_number(1, register).network_number(2, base).network_number(3, offset).network_number(4, length);
    });
}

fn lookup(list: &mut Body<'_>, set: &str, to: Option<u32>, inverted: bool) {
    expression(list, "lookup", |e| {
        e.text(1, set).network_number(2, WORD);
        if let Some(register) = to {
            e.network_number(3, register);
        }
        if inverted {
            e.network_number(5, 1);
        }
    });
}

fn compare(list: &mut Body<'_>, operator: u32, value: &[u8]) {
    expression(list, "cmp", |e| {
        e.network_number(1, WORD).network_number(2, operator);
        e.nest(3, |body| {
            body.put(NFTA_DATA_VALUE, value);
        });
    });
}

/// The first word becomes what a mask leaves of it.
fn masked(list: &mut Body<'_>, mask: &[u8]) {
    expression(list, "bitwise", |e| {
        e.network_number(1, WORD).network_number(2, WORD).network_number(3, mask.len() as u32);
        e.nest(4, |body| {
            body.put(NFTA_DATA_VALUE, mask);
        });
        e.nest(5, |body| {
            body.put(NFTA_DATA_VALUE, &vec![0; mask.len()]);
        });
    });
}

/// One of some bits of the connection's state is set.
fn any_bit(list: &mut Body<'_>, key: u32, bits: u32) {
    expression(list, "ct", |e| {
        e.network_number(1, WORD).network_number(2, key);
    });
    masked(list, &bits.to_ne_bytes());
    compare(list, NOT_EQUAL, &[0; 4]);
}

fn in_block(list: &mut Body<'_>, offset: u32, block: Cidr, operator: u32) {
    let address = octets(block.address());
    payload(list, NETWORK, offset, address.len() as u32, WORD);
    let bits = usize::from(block.prefix());
    if bits < address.len() * 8 {
        let mask: Vec<u8> = (0..address.len()).map(|at| mask_byte(bits.saturating_sub(at * 8))).collect();
        masked(list, &mask);
    }
    compare(list, operator, &address);
}

/// A byte whose highest `bits` bits are set.
fn mask_byte(bits: usize) -> u8 {
    u8::MAX.checked_shr(bits as u32).map_or(u8::MAX, |low| !low)
}

fn port_is(list: &mut Body<'_>, protocol: Protocol, offset: u32, port: u16) {
    meta(list, META_L4PROTO, WORD);
    compare(list, EQUAL, &[protocol.number()]);
    payload(list, TRANSPORT, offset, 2, WORD);
    compare(list, EQUAL, &port.to_be_bytes());
}

fn set_port(list: &mut Body<'_>, protocol: Protocol, offset: u32, port: u16) {
    const CHECKSUM: u32 = 1;
    expression(list, "immediate", |e| {
        e.network_number(1, WORD);
        e.nest(2, |body| {
            body.put(NFTA_DATA_VALUE, &port.to_be_bytes());
        });
    });
    // Where the checksum stands.
    let place = match protocol {
        Protocol::Tcp => 16,
        Protocol::Udp => 6,
    };
    expression(list, "payload", |e| {
        e.network_number(5, WORD).network_number(2, TRANSPORT).network_number(3, offset).network_number(4, 2);
        e.network_number(6, CHECKSUM).network_number(7, place);
    });
}

fn verdict(list: &mut Body<'_>, code: u32, chain: Option<&str>) {
    const NFTA_DATA_VERDICT: u16 = 2;
    expression(list, "immediate", |e| {
        e.network_number(1, VERDICT);
        e.nest(2, |body| {
            body.nest(NFTA_DATA_VERDICT, |body| {
                body.network_number(1, code);
                if let Some(chain) = chain {
                    body.text(2, chain);
                }
            });
        });
    });
}

/// The connection goes to the address in the first words and the port in the word behind it.
fn divert(list: &mut Body<'_>, family: Family) {
    const NFT_NAT_DNAT: u32 = 1;
    expression(list, "nat", |e| {
        e.network_number(1, NFT_NAT_DNAT).network_number(2, u32::from(number(family)));
        e.network_number(3, WORD).network_number(5, WORD + address_length(family) / 4);
    });
}

fn source_offset(family: Family) -> u32 {
    match family {
        Family::Ipv4 => 12,
        Family::Ipv6 => 8,
    }
}

fn destination_offset(family: Family) -> u32 {
    source_offset(family) + address_length(family)
}

fn address_length(family: Family) -> u32 {
    match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 16,
    }
}
