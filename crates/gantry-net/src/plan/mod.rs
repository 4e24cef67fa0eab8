//! From what is asked for to what the kernel is told: devices, addresses, routes, rules. Pure.

mod endpoint;
mod rules;
mod text;

pub use endpoint::{EndpointPlan, endpoint};
pub use rules::{
    Base, Chain, Element, Family, Hook, Kind, Match, Rule, Ruleset, Set, Statement, Type, Value, bare, network_changes,
    network_elements, port_element, redirect, ruleset,
};

#[cfg(test)]
mod tests;
