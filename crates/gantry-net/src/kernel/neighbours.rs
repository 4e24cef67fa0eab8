//! Living beside a Docker Engine, which has the kernel drop whatever is forwarded and is not its own, also what bridges
//! hand on themselves (br_netfilter). It leaves a chain to others, `DOCKER-USER`, in which they may say what passes.
//!
//! There our own devices are let pass, after whatever people have put there themselves. What may not reach them our own
//! rules drop all the same, since each chain at a place has its say. What goes from them to Docker's networks is left to
//! Docker. The rules look like those that iptables makes, which otherwise could not read the chain any more.

use std::io;

use gantry_sys::netlink::{Batch, Body, Channel, attributes};
use rustix::io::Errno;

use super::{Net, failed};
use crate::error::{Error, Result};
use crate::nft::{Foreign, Transaction, header, number};
use crate::plan::Family;

pub const TABLE: &str = "filter";
pub const CHAIN: &str = "DOCKER-USER";
/// Beginnings of the names of Docker's bridges.
const DOCKERS: [&str; 2] = ["docker", "br-"];

const NFT_MSG_GETCHAIN: u16 = 10 << 8 | 4;
const NFT_MSG_NEWRULE: u16 = 10 << 8 | 6;
const NFT_MSG_GETRULE: u16 = 10 << 8 | 7;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;

/// What there is in the chain.
#[derive(Debug, Default)]
struct Listed {
    /// Handles of our rules.
    ours: Vec<Vec<u8>>,
    /// Handle of the last rule, if it is one that returns in any case.
    end: Option<Vec<u8>>,
}

impl Net {
    /// Lets our devices pass beside a Docker Engine, if there is one, and they are not let pass already. It may come at
    /// any time, and this costs some microseconds, so it is asked whenever a container joins a network.
    pub fn pass_beside_others(&self) {
        let families: Vec<Family> = self.families_in_use();
        for family in families {
            if let Err(error) = self.pass_in(family) {
                tracing::warn!(%error, "containers may not reach each other or the outside beside a Docker Engine");
            }
        }
    }

    fn pass_in(&self, family: Family) -> Result<()> {
        let mut channel = self.filter();
        let rules = rules(self.names().prefix());
        if !there_is_a_chain(&mut channel, family)? {
            return Ok(());
        }
        let listed = self.listed(&mut channel, family)?;
        if listed.ours.len() >= rules.len() {
            return Ok(());
        }
        let mut transaction = Transaction::new();
        for rule in &rules {
            transaction.foreign(family, (TABLE, CHAIN), rule, &self.mark(), listed.end.as_deref());
        }
        commit(transaction, &mut channel)
    }

    /// Takes our rules out of the chain of others.
    pub(super) fn leave_others(&self, family: Family) -> Result<()> {
        let mut channel = self.filter();
        if !there_is_a_chain(&mut channel, family)? {
            return Ok(());
        }
        let mut transaction = Transaction::new();
        for handle in self.listed(&mut channel, family)?.ours {
            transaction.remove_rule(family, TABLE, CHAIN, &handle);
        }
        commit(transaction, &mut channel)
    }

    fn listed(&self, channel: &mut Channel, family: Family) -> Result<Listed> {
        let (table, chain) = (with_nul(TABLE), with_nul(CHAIN));
        let only: [(u16, &[u8]); 2] = [(NFTA_RULE_TABLE, &table), (NFTA_RULE_CHAIN, &chain)];
        let mark = self.mark();
        let found = std::cell::RefCell::new(Listed::default());
        let begin = &mut || *found.borrow_mut() = Listed::default();
        let listed = channel.list(NFT_MSG_GETRULE, &header(number(family), 0), &only, begin, &mut |kind, payload| {
            let Some(rest) = payload.get(4..).filter(|_| kind == NFT_MSG_NEWRULE) else { return };
            let mut found = found.borrow_mut();
            let handle = find(rest, NFTA_RULE_HANDLE).map(<[u8]>::to_vec);
            if find(rest, NFTA_RULE_USERDATA) == Some(&mark) {
                found.ours.extend(handle.clone());
            }
            found.end = handle.filter(|_| returns(rest));
        });
        listed.map_err(|error| failed("list the rules of chain DOCKER-USER", &error))?;
        Ok(found.into_inner())
    }

    /// What is written beside each of our rules, as nft(8) writes comments.
    fn mark(&self) -> Vec<u8> {
        let text = with_nul(&self.names().alias_prefix());
        [&[0, text.len() as u8], text.as_slice()].concat()
    }
}

/// An attribute of a message or of an attribute.
fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// Whether a rule returns in any case: it counts at most, and has the verdict.
fn returns(rule: &[u8]) -> bool {
    const NFT_RETURN: i32 = -5;
    let verdict = |expression: &[u8]| {
        let data = find(expression, 2).and_then(|data| find(data, 2)).and_then(|data| find(data, 2));
        let code = data.and_then(|data| find(data, 1)).and_then(|code| code.try_into().ok());
        code.map(i32::from_be_bytes) == Some(NFT_RETURN)
    };
    let Some(list) = find(rule, NFTA_RULE_EXPRESSIONS) else { return false };
    let mut returns = false;
    for (_, expression) in attributes(list) {
        match find(expression, 1) {
            Some(b"counter\0") => {}
            Some(b"immediate\0") => returns = verdict(expression),
            _ => return false,
        }
    }
    returns
}

/// The rules, in order.
fn rules(prefix: &str) -> Vec<Foreign<'_>> {
    let to_docker = DOCKERS.iter().map(|docker| Foreign { from: Some(prefix), to: Some(docker), accept: false });
    let pass = [(Some(prefix), None), (None, Some(prefix))];
    to_docker.chain(pass.map(|(from, to)| Foreign { from, to, accept: true })).collect()
}

fn there_is_a_chain(channel: &mut Channel, family: Family) -> Result<bool> {
    let mut batch = Batch::new();
    batch.push(NFT_MSG_GETCHAIN, 0, &header(number(family), 0), |body: &mut Body<'_>| {
        body.text(NFTA_CHAIN_TABLE, TABLE).text(NFTA_CHAIN_NAME, CHAIN);
    });
    let refusals =
        channel.submit(&mut batch).map_err(|error: io::Error| failed("look for chain DOCKER-USER", &error))?;
    match refusals.first() {
        None => Ok(true),
        Some(refusal) if refusal.errno == Errno::NOENT => Ok(false),
        Some(refusal) => Err(Error::kernel("look for chain DOCKER-USER", refusal.errno)),
    }
}

fn commit(transaction: Transaction, channel: &mut Channel) -> Result<()> {
    let action = "change chain DOCKER-USER";
    let refusals = transaction.commit(channel).map_err(|error| failed(action, &error))?;
    refusals.first().map_or(Ok(()), |first| Err(super::refused(action, first)))
}

fn with_nul(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}
