//! Rules as messages of nf_tables (linux/netfilter/nf_tables.h): what a [`Ruleset`] says, in the kernel's words.

mod expr;

use std::io;
use std::net::IpAddr;

use gantry_sys::netlink::{Batch, Body, Channel, Refused};
use rustix::io::Errno;

use crate::Cidr;
use crate::plan::{Chain, Element, Family, Kind, Ruleset, Set, Type, Value};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;

const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_GETRULE: u16 = 7;
const NFT_MSG_DELRULE: u16 = 8;
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_DELSETELEM: u16 = 14;

const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_POSITION: u16 = 6;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_DESC: u16 = 9;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_DESC_CONCAT: u16 = 2;
const NFTA_SET_FIELD_LEN: u16 = 1;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_KEY_END: u16 = 10;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;

const NFT_SET_INTERVAL: u32 = 4;
const NFT_SET_MAP: u32 = 8;
const NFT_SET_CONCAT: u32 = 0x80;
const NF_ACCEPT: u32 = 1;

/// What nft(8) wants to know of a set of devices' names: that they are in the machine's order of bytes.
const NATIVE_ORDER: [u8; 6] = [0, 4, 1, 0, 0, 0];

/// Bytes of a device's name in a key.
const DEVICE: usize = 16;
/// The most elements of one message: the list of them has at most 64 KiB.
const ELEMENTS: usize = 400;

/// A rule in the form of iptables: what comes from and goes to devices whose names begin so is accepted, or left to the
/// chain that this one was called from.
#[derive(Clone, Copy, Debug)]
pub struct Foreign<'a> {
    /// Beginning of the name of the device it came from.
    pub from: Option<&'a str>,
    /// Beginning of the name of the device it leaves by.
    pub to: Option<&'a str>,
    /// Whether it is accepted.
    pub accept: bool,
}

/// Changes that the kernel makes all at once, or not at all.
#[derive(Debug)]
pub struct Transaction {
    batch: Batch,
}

impl Transaction {
    /// No changes.
    pub fn new() -> Self {
        let mut batch = Batch::new();
        batch.push(NFNL_MSG_BATCH_BEGIN, 0, &header(0, NFNL_SUBSYS_NFTABLES), |_| ());
        Self { batch }
    }

    /// How many messages there are so far: the index, in a refusal, of the next.
    pub fn next_index(&self) -> usize {
        self.batch.len()
    }

    /// Puts a table in place of whatever has its name.
    pub fn replace(&mut self, ruleset: &Ruleset) -> &mut Self {
        self.remove(ruleset.family, &ruleset.table).create(ruleset)
    }

    /// Makes a table; one of its name is an error.
    pub fn create(&mut self, ruleset: &Ruleset) -> &mut Self {
        self.table(ruleset.family, &ruleset.table, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
        for (index, set) in ruleset.sets.iter().enumerate() {
            self.set(ruleset, set, index as u32 + 1);
        }
        for chain in &ruleset.chains {
            self.chain(ruleset, chain);
        }
        for chain in &ruleset.chains {
            self.rules(ruleset, chain);
        }
        self
    }

    /// Removes a table, whether there is one or not.
    pub fn remove(&mut self, family: Family, table: &str) -> &mut Self {
        self.table(family, table, NFT_MSG_NEWTABLE, NLM_F_CREATE).table(family, table, NFT_MSG_DELTABLE, 0)
    }

    /// Adds elements to a set. One that is there already is no error, unless it leads elsewhere.
    pub fn add(&mut self, family: Family, table: &str, set: &str, elements: &[Element]) -> &mut Self {
        for chunk in elements.chunks(ELEMENTS) {
            self.elements(family, table, set, chunk, NFT_MSG_NEWSETELEM, NLM_F_CREATE);
        }
        self
    }

    /// Takes elements out of a set, whether they are there or not. One that leads elsewhere is an error.
    pub fn take(&mut self, family: Family, table: &str, set: &str, elements: &[Element]) -> &mut Self {
        self.add(family, table, set, elements);
        for chunk in elements.chunks(ELEMENTS) {
            self.elements(family, table, set, chunk, NFT_MSG_DELSETELEM, 0);
        }
        self
    }

    /// Adds a rule with a mark to somebody else's chain, which is named behind its table: before the one of a handle, or
    /// at the end.
    pub fn foreign(
        &mut self,
        family: Family,
        (table, chain): (&str, &str),
        rule: &Foreign<'_>,
        mark: &[u8],
        before: Option<&[u8]>,
    ) -> &mut Self {
        let order = if before.is_some() { 0 } else { NLM_F_APPEND };
        self.push(family, NFT_MSG_NEWRULE, NLM_F_CREATE | order, |body| {
            body.text(NFTA_RULE_TABLE, table).text(NFTA_RULE_CHAIN, chain);
            if let Some(handle) = before {
                body.put(NFTA_RULE_POSITION, handle);
            }
            body.nest(NFTA_RULE_EXPRESSIONS, |list| expr::foreign(list, rule));
            body.put(NFTA_RULE_USERDATA, mark);
        })
    }

    /// Takes a rule out of a chain by its handle.
    pub fn remove_rule(&mut self, family: Family, table: &str, chain: &str, handle: &[u8]) -> &mut Self {
        self.push(family, NFT_MSG_DELRULE, 0, |body| {
            body.text(NFTA_RULE_TABLE, table).text(NFTA_RULE_CHAIN, chain).put(NFTA_RULE_HANDLE, handle);
        })
    }

    /// Has the changes made; returns what the kernel refused, and then nothing was changed.
    pub fn commit(mut self, channel: &mut Channel) -> io::Result<Vec<Refused>> {
        self.batch.push(NFNL_MSG_BATCH_END, 0, &header(0, NFNL_SUBSYS_NFTABLES), |_| ());
        channel.submit(&mut self.batch)
    }

    fn push(&mut self, family: Family, message: u16, flags: u16, write: impl FnOnce(&mut Body<'_>)) -> &mut Self {
        self.batch.push(NFNL_SUBSYS_NFTABLES << 8 | message, flags, &header(number(family), 0), write);
        self
    }

    fn table(&mut self, family: Family, table: &str, message: u16, flags: u16) -> &mut Self {
        self.push(family, message, flags, |body| {
            body.text(NFTA_TABLE_NAME, table);
        })
    }

    fn set(&mut self, ruleset: &Ruleset, set: &Set, id: u32) {
        let family = ruleset.family;
        self.push(family, NFT_MSG_NEWSET, NLM_F_CREATE, |body| {
            body.text(NFTA_SET_TABLE, &ruleset.table).text(NFTA_SET_NAME, set.name).network_number(NFTA_SET_ID, id);
            body.network_number(NFTA_SET_KEY_TYPE, type_number(set.key, family));
            body.network_number(NFTA_SET_KEY_LEN, length(set.key, family));
            if set.key == [Type::Device] {
                body.put(NFTA_SET_USERDATA, &NATIVE_ORDER);
            }
            if set.key.contains(&Type::Block) {
                body.network_number(NFTA_SET_FLAGS, NFT_SET_INTERVAL | NFT_SET_CONCAT);
                body.nest(NFTA_SET_DESC, |body| fields(body, set.key, family));
            }
            if !set.data.is_empty() {
                body.network_number(NFTA_SET_FLAGS, NFT_SET_MAP);
                body.network_number(NFTA_SET_DATA_TYPE, type_number(set.data, family));
                body.network_number(NFTA_SET_DATA_LEN, length(set.data, family));
            }
        });
        self.add(family, &ruleset.table, set.name, &set.elements);
    }

    fn elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
        elements: &[Element],
        message: u16,
        flags: u16,
    ) -> &mut Self {
        self.push(family, message, flags, |body| {
            body.text(NFTA_SET_ELEM_LIST_TABLE, table).text(NFTA_SET_ELEM_LIST_SET, set);
            body.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
                for element in elements {
                    list.nest(NFTA_LIST_ELEM, |body| {
                        data(body, NFTA_SET_ELEM_KEY, &bytes(&element.key, Cidr::address));
                        if element.key.iter().any(|value| matches!(value, Value::Block(_))) {
                            data(body, NFTA_SET_ELEM_KEY_END, &bytes(&element.key, Cidr::last));
                        }
                        if !element.data.is_empty() && message == NFT_MSG_NEWSETELEM {
                            data(body, NFTA_SET_ELEM_DATA, &bytes(&element.data, Cidr::address));
                        }
                    });
                }
            });
        })
    }

    fn chain(&mut self, ruleset: &Ruleset, chain: &Chain) {
        self.push(ruleset.family, NFT_MSG_NEWCHAIN, NLM_F_CREATE, |body| {
            body.text(NFTA_CHAIN_TABLE, &ruleset.table).text(NFTA_CHAIN_NAME, chain.name);
            if let Some(base) = chain.base {
                body.nest(NFTA_CHAIN_HOOK, |hook| {
                    hook.network_number(NFTA_HOOK_HOOKNUM, base.hook as u32);
                    hook.network_number(NFTA_HOOK_PRIORITY, base.priority.cast_unsigned());
                });
                body.network_number(NFTA_CHAIN_POLICY, NF_ACCEPT);
                body.text(NFTA_CHAIN_TYPE, if base.kind == Kind::Nat { "nat" } else { "filter" });
            }
        });
    }

    fn rules(&mut self, ruleset: &Ruleset, chain: &Chain) {
        for rule in &chain.rules {
            self.push(ruleset.family, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |body| {
                body.text(NFTA_RULE_TABLE, &ruleset.table).text(NFTA_RULE_CHAIN, chain.name);
                body.nest(NFTA_RULE_EXPRESSIONS, |list| expr::rule(list, rule, ruleset.family));
            });
        }
    }
}

/// Whether there is a table.
pub fn there_is_table(channel: &mut Channel, family: Family, table: &str) -> io::Result<bool> {
    let mut batch = Batch::new();
    batch.push(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, 0, &header(number(family), 0), |body| {
        body.text(NFTA_TABLE_NAME, table);
    });
    match channel.submit(&mut batch)?.first() {
        None => Ok(true),
        Some(refused) if refused.errno == Errno::NOENT => Ok(false),
        Some(refused) => Err(refused.errno.into()),
    }
}

/// How many rules there are in a table.
pub fn count_rules(channel: &mut Channel, family: Family, table: &str) -> io::Result<usize> {
    let name = [table.as_bytes(), &[0]].concat();
    let count = std::cell::Cell::new(0);
    let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE;
    let only: [(u16, &[u8]); 1] = [(NFTA_RULE_TABLE, &name)];
    channel.list(kind, &header(number(family), 0), &only, &mut || count.set(0), &mut |kind, _| {
        count.set(count.get() + usize::from(kind == NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE));
    })?;
    Ok(count.get())
}

/// `struct nfgenmsg`.
pub fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// A family's number (`NFPROTO_*`).
pub fn number(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 2,
        Family::Ipv6 => 10,
    }
}

/// A value as an attribute.
fn data(body: &mut Body<'_>, kind: u16, value: &[u8]) {
    body.nest(kind, |body| {
        body.put(NFTA_DATA_VALUE, value);
    });
}

/// The number by which nft(8) knows what a key or its data consists of; the kernel only stores it.
fn type_number(types: &[Type], family: Family) -> u32 {
    types.iter().fold(0, |number, one| {
        let this = match (one, family) {
            (Type::Address | Type::Block, Family::Ipv4) => 7,
            (Type::Address | Type::Block, Family::Ipv6) => 8,
            (Type::Protocol, _) => 12,
            (Type::Port, _) => 13,
            (Type::Device, _) => 41,
        };
        number << 6 | this
    })
}

/// Bytes of a value of a type in a register: whole words.
fn length_of(one: Type, family: Family) -> u32 {
    match (one, family) {
        (Type::Device, _) => DEVICE as u32,
        (Type::Address | Type::Block, Family::Ipv6) => 16,
        _ => 4,
    }
}

fn length(types: &[Type], family: Family) -> u32 {
    types.iter().map(|one| length_of(*one, family)).sum()
}

/// Lengths of the parts of a key, for a set of intervals.
fn fields(body: &mut Body<'_>, types: &[Type], family: Family) {
    body.nest(NFTA_SET_DESC_CONCAT, |body| {
        for one in types {
            body.nest(NFTA_LIST_ELEM, |body| {
                body.network_number(NFTA_SET_FIELD_LEN, length_of(*one, family));
            });
        }
    });
}

/// Values one after the other, each in whole words; of a block one end.
fn bytes(values: &[Value], end: fn(&Cidr) -> IpAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        match value {
            Value::Device(name) => bytes.extend(name.bytes().chain(std::iter::repeat(0)).take(DEVICE)),
            Value::Address(address) => bytes.extend(octets(*address)),
            Value::Block(block) => bytes.extend(octets(end(block))),
            Value::Protocol(protocol) => bytes.push(protocol.number()),
            Value::Port(port) => bytes.extend(port.to_be_bytes()),
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
