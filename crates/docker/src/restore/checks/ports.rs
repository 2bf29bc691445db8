//! Published ports that are taken on the target.
//!
//! Invariant: a port that a replaced container has is not taken by it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use refloat_model::finding::Finding;
use refloat_model::item::ItemKind;
use refloat_model::plan::Action;
use serde_json::Value;

use super::super::plan::{Planner, is_made};
use super::super::present::{TakenPort, specific};
use crate::definition::ContainerDefinition;

/// `LISTEN` in `/proc/<pid>/net/tcp`.
const TCP_LISTEN: &str = "0A";
/// An unconnected socket in `/proc/<pid>/net/udp`.
const UDP_UNCONNECTED: &str = "07";

/// One published port: protocol, address (none means every one) and port.
type Published = (String, Option<IpAddr>, u16);

pub(super) fn check(planner: &Planner<'_>, findings: &mut Vec<Finding>) {
    let present = planner.ground.present;
    let replaced: BTreeSet<&str> = planner
        .holding
        .containers
        .iter()
        .filter(|(name, _)| {
            let decision = planner.decision(ItemKind::Container, name);
            matches!(decision, Some(Action::Replace { .. } | Action::Reuse))
        })
        .map(|(_, held)| held.definition.name.as_str())
        .collect();
    let mut taken: Vec<TakenPort> = present
        .ports
        .iter()
        .filter(|port| {
            !port
                .container
                .as_deref()
                .is_some_and(|name| replaced.contains(name))
        })
        .cloned()
        .collect();
    let known: BTreeSet<(String, u16)> = present
        .ports
        .iter()
        .map(|port| (port.protocol.clone(), port.port))
        .collect();
    // What the engine's own containers have is known better from the engine.
    let others = listening(planner.ground.reach.engine_pid);
    taken.extend(
        others
            .into_iter()
            .filter(|p| !known.contains(&(p.protocol.clone(), p.port))),
    );
    let mut claimed: BTreeMap<(String, u16), String> = BTreeMap::new();
    for (name, held) in &planner.holding.containers {
        let starts = held.definition.started && !planner.request.leave_stopped;
        if !starts
            || !planner
                .decision(ItemKind::Container, name)
                .is_some_and(is_made)
        {
            continue;
        }
        for wanted in published(&held.definition) {
            let subject = format!("container {name}");
            let port = format!("port {}/{}", wanted.2, wanted.0);
            if let Some(taker) = taken.iter().find(|taken| overlaps(taken, &wanted)) {
                let by = taker.container.as_ref().map_or_else(
                    || "another program".to_owned(),
                    |container| format!("container {container}"),
                );
                let message = format!("{port} is taken on the target by {by}: free it first");
                findings.push(Finding::error(subject.clone(), message));
            }
            if let Some(other) = claimed.insert((wanted.0.clone(), wanted.2), name.clone())
                && wanted.1.is_none()
                && other != *name
            {
                let message = format!("container {other} is to have {port} as well");
                findings.push(Finding::error(subject, message));
            }
        }
    }
}

/// The fixed host ports of a container.
fn published(container: &ContainerDefinition) -> BTreeSet<Published> {
    let bindings = container
        .host_config
        .get("PortBindings")
        .and_then(Value::as_object);
    let mut ports = BTreeSet::new();
    for (inside, hosts) in bindings.into_iter().flatten() {
        let protocol = inside
            .split_once('/')
            .map_or("tcp", |(_, protocol)| protocol);
        for host in hosts.as_array().into_iter().flatten() {
            let text = |key: &str| host.get(key).and_then(Value::as_str).unwrap_or_default();
            // No number, or a range: the engine finds a free one.
            if let Ok(port) = text("HostPort").parse::<u16>()
                && port > 0
            {
                ports.insert((protocol.to_owned(), specific(text("HostIp")), port));
            }
        }
    }
    ports
}

fn overlaps(taken: &TakenPort, wanted: &Published) -> bool {
    let (protocol, address, port) = wanted;
    let same_address = match (taken.address, address) {
        (Some(a), Some(b)) => a == *b,
        _ => true,
    };
    taken.protocol == *protocol && taken.port == *port && same_address
}

/// Ports that programs listen on where the engine publishes its own.
fn listening(engine_pid: Option<i32>) -> Vec<TakenPort> {
    let Some(pid) = engine_pid else {
        return Vec::new();
    };
    let tables = [
        ("tcp", TCP_LISTEN),
        ("tcp6", TCP_LISTEN),
        ("udp", UDP_UNCONNECTED),
        ("udp6", UDP_UNCONNECTED),
    ];
    tables
        .into_iter()
        .filter_map(|(table, state)| {
            // No permission to look is no knowledge, and the check says nothing.
            let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).ok()?;
            Some(parse_table(&text, table.trim_end_matches('6'), state))
        })
        .flatten()
        .collect()
}

fn parse_table(text: &str, protocol: &str, state: &str) -> Vec<TakenPort> {
    let lines = text.lines().skip(1);
    lines
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, remote_state) = (fields.next()?, fields.nth(1)?);
            let (address, port) = local.split_once(':')?;
            let port = u16::from_str_radix(port, 16).ok()?;
            (remote_state == state).then(|| TakenPort {
                protocol: protocol.to_owned(),
                address: v4(address),
                port,
                container: None,
            })
        })
        .collect()
}

/// An IPv4 address as the kernel writes it, in the byte order of the machine; none for "every
/// address" and, to be careful, for IPv6.
fn v4(hex: &str) -> Option<IpAddr> {
    let bits = u32::from_str_radix(hex, 16)
        .ok()
        .filter(|_| hex.len() == 8)?;
    let address = IpAddr::from(bits.to_ne_bytes());
    Some(address).filter(|address| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n\
             1: 00000000:0050 00000000:0000 0A 00000000:00000000\n\
             2: 0100007F:C350 0100007F:1F90 01 00000000:00000000\n";
        let port = |address: Option<&str>, port| TakenPort {
            protocol: "tcp".into(),
            address: address.map(|a| a.parse().unwrap()),
            port,
            container: None,
        };
        let expected = if cfg!(target_endian = "little") {
            vec![port(Some("127.0.0.1"), 8080), port(None, 80)]
        } else {
            vec![port(Some("1.0.0.127"), 8080), port(None, 80)]
        };
        assert_eq!(parse_table(table, "tcp", TCP_LISTEN), expected);
    }

    #[test]
    fn the_same_port_on_other_addresses_is_free() {
        let taken = |address: Option<&str>| TakenPort {
            protocol: "tcp".into(),
            address: address.map(|a| a.parse().unwrap()),
            port: 80,
            container: None,
        };
        let wanted = |address: Option<&str>| -> Published {
            ("tcp".into(), address.map(|a| a.parse().unwrap()), 80)
        };
        assert!(overlaps(&taken(None), &wanted(Some("10.0.0.1"))));
        assert!(overlaps(&taken(Some("10.0.0.1")), &wanted(None)));
        assert!(!overlaps(
            &taken(Some("10.0.0.1")),
            &wanted(Some("10.0.0.2"))
        ));
        assert!(!overlaps(&taken(None), &("udp".into(), None, 80)));
    }
}
