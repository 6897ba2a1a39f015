//! The layers: which crate may depend on which, proved from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::process;
use crate::workspace::Workspace;

/// What each crate may depend on, lowest layer first; the last two stand outside the layers.
const LAYERS: [(&str, &[&str]); 15] = [
    ("tch-autograd", &[]),
    ("sae-config", &[]),
    ("sae-data", &[]),
    ("sae-hub", &[]),
    ("soft-topk", &["tch-autograd"]),
    ("sae-kernels", &[]),
    ("sae-hosts", &["sae-data", "sae-config", "sae-hub", "tch-autograd"]),
    ("sae-models", &["soft-topk", "sae-kernels", "sae-config", "tch-autograd"]),
    (
        "sae-train",
        &["sae-models", "sae-kernels", "soft-topk", "sae-data", "sae-config", "tch-autograd"],
    ),
    ("sae-eval", &["sae-models", "sae-hosts", "sae-data", "sae-config", "tch-autograd"]),
    ("sae-report", &["sae-config"]),
    ("sae-judge", &["sae-report", "sae-config"]),
    (
        "softsae",
        &[
            "sae-train",
            "sae-eval",
            "sae-report",
            "sae-judge",
            "sae-models",
            "sae-hosts",
            "sae-hub",
            "sae-data",
            "sae-config",
            "tch-autograd",
        ],
    ),
    ("xtask", &["sae-data", "sae-config", "sae-report"]),
    (
        "benches",
        &[
            "softsae",
            "sae-train",
            "sae-eval",
            "sae-report",
            "sae-models",
            "sae-hosts",
            "sae-kernels",
            "soft-topk",
            "sae-data",
            "sae-config",
            "tch-autograd",
        ],
    ),
];

/// Crates that must work where there is no libtorch.
const WITHOUT_LIBTORCH: [&str; 7] =
    ["sae-config", "sae-data", "sae-hub", "sae-kernels", "sae-report", "sae-judge", "xtask"];

/// The package that links libtorch.
const LIBTORCH: &str = "torch-sys";

/// The part of `cargo metadata` that matters here.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

/// Dependencies of each package, by name.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Every edge of the workspace that the layers forbid.
pub(super) fn check(workspace: &Workspace) -> Result<Vec<String>> {
    let mut command = process::cargo(workspace);
    command.args(["metadata", "--format-version=1", "--all-features"]);
    let text = process::output(&mut command, "cargo metadata")?;
    let metadata: Metadata = serde_json::from_str(&text).context("cargo metadata")?;
    let names: BTreeMap<_, _> = metadata.packages.iter().map(|p| (&p.id, &p.name)).collect();
    let members = metadata.workspace_members.iter().map(|id| names[id].clone()).collect();
    let named = |node: &Node| {
        let dependencies = node.dependencies.iter().map(|id| names[id].clone()).collect();
        (names[&node.id].clone(), dependencies)
    };
    // Two versions of a package share a name; their dependencies are taken together.
    let mut graph = Graph::new();
    for (name, dependencies) in metadata.resolve.nodes.iter().map(named) {
        let all: &mut BTreeSet<String> = graph.entry(name).or_default();
        all.extend::<BTreeSet<_>>(dependencies);
    }
    Ok(faults(&members, &graph))
}

fn faults(members: &BTreeSet<String>, graph: &Graph) -> Vec<String> {
    let mut faults = Vec::new();
    for member in members {
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| name == member) else {
            faults.push(format!("{member}: expected a place in the layers, found none"));
            continue;
        };
        for dependency in graph[member].intersection(members) {
            if !allowed.contains(&dependency.as_str()) {
                faults.push(format!("{member} may depend on {allowed:?}, got {dependency}"));
            }
        }
    }
    for name in WITHOUT_LIBTORCH {
        if let Some(path) = path(graph, name, LIBTORCH) {
            faults.push(format!("{name} must not reach {LIBTORCH}: {}", path.join(" → ")));
        }
    }
    faults
}

/// A path from one package to another, if there is one.
fn path<'a>(graph: &'a Graph, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut paths = vec![vec![from]];
    let mut seen = BTreeSet::from([from]);
    while let Some(path) = paths.pop() {
        let last = *path.last()?;
        if last == to {
            return Some(path);
        }
        for next in graph.get(last).into_iter().flatten() {
            if seen.insert(next) {
                paths.push([&path[..], &[next]].concat());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> (BTreeSet<String>, Graph) {
        let mut graph = Graph::new();
        for (name, _) in LAYERS {
            graph.insert(name.into(), BTreeSet::new());
        }
        let members = graph.keys().cloned().collect();
        for (from, to) in edges {
            graph.entry((*from).into()).or_default().extend(to.iter().map(|to| (*to).into()));
        }
        (members, graph)
    }

    #[test]
    fn edges_down_are_allowed_and_edges_up_are_not() {
        let check = |edges: &[(&str, &[&str])]| {
            let (members, graph) = graph(edges);
            faults(&members, &graph)
        };
        assert!(check(&[("sae-eval", &["sae-models", "serde"])]).is_empty());
        let up = check(&[("sae-models", &["sae-train"])]);
        assert!(up[0].starts_with("sae-models may depend on") && up[0].ends_with("got sae-train"));
        assert_eq!(check(&[("sae-eval", &["sae-train"])]).len(), 1);
        let deep = check(&[("sae-report", &["a"]), ("a", &["b"]), ("b", &["torch-sys"])]);
        assert_eq!(deep, ["sae-report must not reach torch-sys: sae-report → a → b → torch-sys",]);
    }

    #[test]
    fn a_crate_without_a_place_is_a_fault() {
        let (mut members, mut graph) = graph(&[]);
        members.insert("sae-new".into());
        graph.insert("sae-new".into(), BTreeSet::new());
        assert_eq!(faults(&members, &graph).len(), 1);
    }

    #[test]
    fn the_layers_themselves_point_down() {
        for (index, (name, allowed)) in LAYERS.iter().enumerate() {
            for dependency in *allowed {
                let below = LAYERS[..index].iter().any(|(lower, _)| lower == dependency);
                assert!(below, "{name} → {dependency}");
            }
        }
    }
}
