//! Damage: to documents as trees, so that it gets past the parser, and to bytes, so that it does not.

use crate::random::Random;
use serde_json::{Value, json};

/// Values that programs stumble over: the ends of number ranges, paths that lead out, names that are none.
fn odd_values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(u32::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1e308),
        json!(""),
        json!("/"),
        json!(".."),
        json!("../../../etc/passwd"),
        json!("/proc/self/fd/7"),
        json!("a\u{0}b"),
        json!("\u{feff}\u{202e}"),
        json!("x".repeat(5000)),
        json!([]),
        json!({}),
        json!([[]]),
        json!("0-18446744073709551615"),
        json!("99999999999999999999:1:2"),
    ]
}

/// A new input, from one of the seeds.
pub fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let Some(seed) = random.choose(seeds) else { return Vec::new() };
    let tree = serde_json::from_slice::<Value>(seed);
    let Ok(mut tree) = tree else { return damage_bytes(seed.clone(), random) };
    for _ in 0..=random.below(6) {
        let donor = random.choose(seeds).and_then(|seed| serde_json::from_slice(seed).ok()).unwrap_or(Value::Null);
        damage_tree(&mut tree, &donor, random);
    }
    let text = tree.to_string().into_bytes();
    if random.below(8) == 0 { damage_bytes(text, random) } else { text }
}

/// Changes one node of a tree: takes a node's place by something odd or by a node of another tree, removes it, or
/// repeats it.
fn damage_tree(tree: &mut Value, donor: &Value, random: &mut Random) {
    let nodes = count(tree);
    let at = random.below(nodes);
    let what = random.below(4);
    let stranger = nth(donor, random.below(count(donor))).cloned().unwrap_or(Value::Null);
    let odd = random.choose(&odd_values()).cloned().unwrap_or(Value::Null);
    let choice = random.bits() as usize;
    let Some(node) = nth_mut(tree, at) else { return };
    match (what, node) {
        (0, node) => *node = odd,
        (1, node) => *node = stranger,
        (2, Value::Object(map)) if !map.is_empty() => {
            let key = map.keys().nth(choice % map.len()).cloned().unwrap_or_default();
            map.remove(&key);
        }
        (2, Value::Array(list)) if !list.is_empty() => drop(list.remove(choice % list.len())),
        (3, Value::Array(list)) if !list.is_empty() && list.len() < 2000 => {
            let one = list[choice % list.len()].clone();
            let times = if choice.is_multiple_of(64) { 1000 } else { 1 };
            list.extend(std::iter::repeat_n(one, times));
        }
        (_, Value::Number(number)) => {
            let near = number.as_i64().unwrap_or_default();
            *number = near.wrapping_add((choice % 5) as i64 - 2).into();
        }
        (_, node) => *node = odd,
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(list) => Box::new(list.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn count(value: &Value) -> usize {
    1 + children(value).map(count).sum::<usize>()
}

/// The node with a number, counted from the root down.
fn nth(value: &Value, mut at: usize) -> Option<&Value> {
    if at == 0 {
        return Some(value);
    }
    at -= 1;
    for child in children(value) {
        let below = count(child);
        if at < below {
            return nth(child, at);
        }
        at -= below;
    }
    None
}

fn nth_mut(value: &mut Value, mut at: usize) -> Option<&mut Value> {
    if at == 0 {
        return Some(value);
    }
    at -= 1;
    let children: Box<dyn Iterator<Item = &mut Value> + '_> = match value {
        Value::Array(list) => Box::new(list.iter_mut()),
        Value::Object(map) => Box::new(map.values_mut()),
        _ => return None,
    };
    for child in children {
        let below = count(child);
        if at < below {
            return nth_mut(child, at);
        }
        at -= below;
    }
    None
}

/// Flips, inserts, removes and repeats bytes.
fn damage_bytes(mut bytes: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 => bytes.insert(at, random.bits() as u8),
            2 if !bytes.is_empty() => drop(bytes.remove(at)),
            3 => bytes.truncate(at),
            _ => {
                let piece = bytes[at..bytes.len().min(at + 1 + random.below(64))].to_vec();
                let times = if random.below(50) == 0 { 2000 } else { 1 };
                bytes.splice(at..at, piece.repeat(times));
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_counted_and_found() {
        let tree = json!({ "a": [1, 2], "b": 3 });
        assert_eq!(count(&tree), 5);
        let found: Vec<String> = (0..6).filter_map(|at| nth(&tree, at)).map(Value::to_string).collect();
        assert_eq!(found[1..], ["[1,2]", "1", "2", "3"]);
    }

    #[test]
    fn the_same_seed_gives_the_same_damage() {
        let seeds = vec![br#"{"a":[1,2,{"b":"c"}]}"#.to_vec(), b"not json".to_vec()];
        let inputs = |seed| {
            let mut random = Random::new(seed);
            (0..200).map(|_| mutate(&seeds, &mut random)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(1).iter().any(|input| !seeds.contains(input)));
    }
}
