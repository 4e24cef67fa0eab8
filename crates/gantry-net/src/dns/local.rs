//! What is answered from memory, and what is handed on. Pure.

use super::wire::{A, AAAA, ANY, Code, IN, PTR, Question, Record, reversed};
use super::zone::{Found, View, Zone};

/// What becomes of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is answered.
    Answer(Code, Vec<Record>),
    /// Others are asked.
    Forward,
}

/// Decides about a question. What is known here is never asked of others, whatever is asked about it. Answers come in an
/// order that `chance` chooses.
pub fn decide(zone: &Zone, view: &View, question: &Question, chance: u64) -> Decision {
    let known = question.name.as_deref().filter(|name| question.class == IN && !name.is_empty());
    let records = known.and_then(|name| records(zone, view, name, question.kind));
    match records {
        Some(mut records) => {
            shuffle(&mut records, chance);
            Decision::Answer(Code::NoError, records)
        }
        None if view.upstreams.is_empty() => Decision::Answer(Code::NxDomain, Vec::new()),
        None => Decision::Forward,
    }
}

/// What is known of a name; `None` if it is not.
fn records(zone: &Zone, view: &View, name: &str, kind: u16) -> Option<Vec<Record>> {
    if let Some(address) = reversed(name) {
        let found = zone.name_of(view, address)?;
        return Some(if matches!(kind, PTR | ANY) { vec![Record::Name(found)] } else { Vec::new() });
    }
    let Found::Addresses(addresses) = zone.find(view, name) else { return None };
    let wanted = addresses.into_iter().filter(|address| match kind {
        A => address.is_ipv4(),
        AAAA => address.is_ipv6(),
        kind => kind == ANY,
    });
    Some(wanted.map(Record::Address).collect())
}

/// Changes the order by numbers made from `chance` (xorshift).
fn shuffle<T>(items: &mut [T], chance: u64) {
    let mut state = chance | 1;
    for end in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(end, (state % (end as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::wire::tests::ask;
    use super::super::wire::{Read, read};
    use super::super::zone::Member;
    use super::*;

    fn world(upstreams: bool) -> (Zone, View) {
        let mut zone = Zone::default();
        zone.set_network("n", "front");
        let member = |name: &str, address: &str| Member {
            names: vec![name.to_owned(), "www".to_owned()],
            addresses: vec![address.parse().unwrap()],
        };
        zone.insert("n", "1", member("web1", "10.0.0.1"));
        zone.insert("n", "2", member("web2", "10.0.0.2"));
        zone.insert("n", "3", member("web3", "10.0.0.3"));
        let upstreams = if upstreams { vec!["192.0.2.1:53".parse().unwrap()] } else { Vec::new() };
        (zone, View { networks: vec!["n".to_owned()], upstreams, ..View::default() })
    }

    fn decision(upstreams: bool, name: &str, kind: u16, chance: u64) -> Decision {
        let (zone, view) = world(upstreams);
        let Read::Question(question) = read(&ask(name, kind, None)) else { panic!("{name}") };
        decide(&zone, &view, &question, chance)
    }

    #[test]
    fn decisions() {
        let check = |name: &str, kind: u16, expect: &str| {
            let text = match decision(true, name, kind, 0) {
                Decision::Forward => "forward".to_owned(),
                Decision::Answer(code, records) => format!("{code:?} {records:?}"),
            };
            assert_eq!(text, expect, "{name} {kind}");
        };
        check("web1", A, "NoError [Address(10.0.0.1)]");
        check("WEB1.front", A, "NoError [Address(10.0.0.1)]");
        check("web1", AAAA, "NoError []");
        check("web1", 15, "NoError []");
        check("web1", ANY, "NoError [Address(10.0.0.1)]");
        check("web1.example", A, "forward");
        check("", A, "forward");
        check("2.0.0.10.in-addr.arpa", PTR, "NoError [Name(\"web2.front\")]");
        check("2.0.0.10.in-addr.arpa", A, "NoError []");
        check("9.0.0.10.in-addr.arpa", PTR, "forward");
        assert_eq!(decision(false, "example", A, 0), Decision::Answer(Code::NxDomain, Vec::new()));
    }

    #[test]
    fn each_order_comes() {
        let orders: HashSet<String> = (0..200_u64)
            .map(|n| format!("{:?}", decision(true, "www", A, n.wrapping_mul(0x9e37_79b9_7f4a_7c15))))
            .collect();
        assert_eq!(orders.len(), 6);
    }
}
