//! This workspace keeps its own rules.

#![cfg(test)]

use xtask::{adr, dependencies, graph, manners, root, sources, tidy};

fn assert_none(found: &[String]) {
    assert!(
        found.is_empty(),
        "{} violations:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn dependencies_point_down_only() {
    let graph = graph::Graph::of_workspace(&root()).unwrap();
    assert!(graph.members.len() > 10, "{:?}", graph.members);
    assert_none(&dependencies::violations(&graph));
}

#[test]
fn libraries_do_not_print_exit_or_read_the_environment() {
    assert_none(&manners::violations(&sources::read(&root()).unwrap()));
}

#[test]
fn files_are_tidy() {
    let sources = sources::read(&root()).unwrap();
    for file in tidy::for_review(&sources) {
        println!("for review: {file}");
    }
    assert_none(&tidy::violations(&root(), &sources).unwrap());
}

#[test]
fn decision_records_are_numbered_short_and_whole() {
    assert_none(&adr::violations(&root()).unwrap());
}
