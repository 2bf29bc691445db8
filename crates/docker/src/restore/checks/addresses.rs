//! Subnets that clash with networks of the target, and fixed addresses outside their subnet.
//!
//! Invariant: two networks with overlapping subnets never both pass.

use std::net::IpAddr;

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::Action;
use serde_json::Value;

use super::super::plan::{Planner, is_made};
use crate::definition::NetworkDefinition;

/// Drivers whose networks may share subnets with others.
const SHARING_DRIVERS: &[&str] = &["macvlan", "ipvlan", "host", "null", "overlay"];

/// An address range: its first address and the length of its prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    bits: u128,
    length: u32,
    width: u32,
}

impl Range {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let (bits, width) = bits(address.parse().ok()?);
        let length: u32 = length.parse().ok().filter(|length| *length <= width)?;
        Some(Self {
            bits,
            length,
            width,
        })
    }

    fn overlaps(self, other: Self) -> bool {
        let shift = self.width - self.length.min(other.length);
        let cut = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
        self.width == other.width && cut(self.bits) == cut(other.bits)
    }

    fn contains(self, address: IpAddr) -> bool {
        let (bits, width) = bits(address);
        self.overlaps(Self {
            bits,
            length: width,
            width,
        })
    }
}

fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

fn ranges(network: &NetworkDefinition) -> Vec<(String, Range)> {
    let configs = network.ipam.get("Config").and_then(Value::as_array);
    let subnets = configs
        .into_iter()
        .flatten()
        .filter_map(|c| c.get("Subnet")?.as_str());
    subnets
        .filter_map(|subnet| Some((subnet.to_owned(), Range::parse(subnet)?)))
        .collect()
}

pub(super) fn check(planner: &Planner<'_>, findings: &mut Vec<Finding>) {
    let mut made: Vec<&NetworkDefinition> = Vec::new();
    for (name, held) in &planner.holding.networks {
        let decision = planner.decision(ItemKind::Network, name);
        if !decision.is_some_and(is_made) {
            continue;
        }
        let network = &held.definition;
        if !SHARING_DRIVERS.contains(&network.driver.as_str()) {
            let replaced = matches!(decision, Some(Action::Replace { .. }));
            let present = planner.ground.present.networks.values();
            let present = present.filter(|other| !(replaced && other.name == network.name));
            for other in present.chain(made.iter().copied()) {
                if other.name != network.name || !replaced {
                    clash(name, network, other, findings);
                }
            }
            made.push(network);
        }
    }
    fixed_addresses(planner, findings);
}

fn clash(
    name: &str,
    network: &NetworkDefinition,
    other: &NetworkDefinition,
    findings: &mut Vec<Finding>,
) {
    if SHARING_DRIVERS.contains(&other.driver.as_str()) {
        return;
    }
    for (subnet, range) in ranges(network) {
        if let Some((theirs, _)) = ranges(other).iter().find(|(_, r)| r.overlaps(range)) {
            let message = format!(
                "its subnet {subnet} overlaps with {theirs} of network {}: remove that network, \
                 or restore onto another engine",
                other.name
            );
            findings.push(Finding::error(format!("network {name}"), message));
        }
    }
}

/// A fixed address works only in a subnet of its network.
fn fixed_addresses(planner: &Planner<'_>, findings: &mut Vec<Finding>) {
    for (name, held) in &planner.holding.containers {
        if !planner
            .decision(ItemKind::Container, name)
            .is_some_and(is_made)
        {
            continue;
        }
        for (network, endpoint) in &held.definition.networks {
            let fixed = endpoint
                .get("IPAMConfig")
                .and_then(|ipam| ipam.get("IPv4Address"));
            let Some(address) = fixed.and_then(|a| a.as_str()?.parse::<IpAddr>().ok()) else {
                continue;
            };
            let old = planner.old_name(ItemKind::Network, network);
            let definition = match planner.holding.networks.get(&old) {
                Some(held)
                    if planner
                        .decision(ItemKind::Network, &old)
                        .is_some_and(is_made) =>
                {
                    Some(&held.definition)
                }
                _ => planner.ground.present.networks.get(network),
            };
            let fits = definition.is_none_or(|definition| {
                let ranges = ranges(definition);
                ranges.is_empty() || ranges.iter().any(|(_, range)| range.contains(address))
            });
            if !fits {
                let message = format!("its address {address} is in no subnet of network {network}");
                findings.push(Finding::error(format!("container {name}"), message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_overlap_if_one_holds_the_other() {
        let overlap =
            |a: &str, b: &str| Range::parse(a).unwrap().overlaps(Range::parse(b).unwrap());
        assert!(overlap("10.0.0.0/8", "10.77.0.0/24"));
        assert!(overlap("10.77.0.0/24", "10.77.0.128/25"));
        assert!(!overlap("10.77.0.0/24", "10.77.1.0/24"));
        assert!(overlap("0.0.0.0/0", "192.168.0.0/16"));
        assert!(overlap("fd00::/8", "fd00:1::/64"));
        assert!(!overlap("::/0", "10.0.0.0/8"));
        assert_eq!(Range::parse("10.0.0.0/33"), None);
        assert_eq!(Range::parse("10.0.0.0"), None);
    }
}
