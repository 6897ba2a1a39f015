//! A hierarchy of features: whose child each is, and which siblings exclude each other.

use serde::Deserialize;

/// A node as SAELens writes it (`hierarchy.json`); one without a feature only groups its children.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Node {
    pub(super) feature_index: Option<usize>,
    pub(super) mutually_exclusive_children: bool,
    pub(super) scale_children_by_parent: bool,
    /// A name for people.
    #[serde(rename = "feature_id")]
    _feature_id: Option<String>,
    pub(super) children: Vec<Node>,
}

/// What a feature is to its parent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Kin {
    /// The feature without which this one is not active.
    pub(super) parent: Option<u32>,
    /// Whether its activation is multiplied by the parent's over the parent's mean.
    pub(super) is_scaled: bool,
    /// Of the features of one group at most one is active.
    pub(super) group: Option<u32>,
}

/// The places of all features.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Forest {
    pub(super) kin: Vec<Kin>,
    /// Children of each feature, ascending.
    pub(super) children: Vec<Vec<u32>>,
}

impl Forest {
    /// Reads trees.
    ///
    /// # Errors
    /// What is expected and got, where a feature is out of range or has two places, or a node whose
    /// children exclude each other has fewer than two.
    pub(super) fn new(n_features: usize, roots: &[Node]) -> Result<Self, (String, String)> {
        let kin = vec![Kin::default(); n_features];
        let mut forest = Self { kin, children: vec![Vec::new(); n_features] };
        let mut seen = vec![false; n_features];
        let mut n_groups = 0;
        let mut todo: Vec<(&Node, Kin)> = roots.iter().map(|r| (r, Kin::default())).collect();
        while let Some((node, kin)) = todo.pop() {
            if let Some(feature) = node.feature_index {
                if feature >= n_features {
                    let expected = format!("feature_index below num_features {n_features}");
                    return Err((expected, feature.to_string()));
                }
                if std::mem::replace(&mut seen[feature], true) {
                    let expected = "each feature_index once".to_owned();
                    return Err((expected, format!("{feature} twice")));
                }
                forest.kin[feature] = kin;
                if let Some(parent) = kin.parent {
                    forest.children[parent as usize].push(feature as u32);
                }
            }
            if node.mutually_exclusive_children && node.children.len() < 2 {
                let expected = "at least 2 children where mutually_exclusive_children is set";
                return Err((expected.to_owned(), node.children.len().to_string()));
            }
            let group = node.mutually_exclusive_children.then_some(n_groups);
            n_groups += u32::from(group.is_some());
            let kin = Kin {
                parent: node.feature_index.map(|f| f as u32).or(kin.parent),
                is_scaled: node.scale_children_by_parent,
                group,
            };
            todo.extend(node.children.iter().map(|child| (child, kin)));
        }
        forest.children.iter_mut().for_each(|children| children.sort_unstable());
        Ok(forest)
    }

    /// Factors that make up for what parents and siblings take from a feature's probability:
    /// 1/P(parent) · (1 + Σ P(sibling)/P(parent)), where siblings exclude each other.
    pub(super) fn corrections(roots: &[Node], probabilities: &[f32]) -> Vec<f32> {
        let mut factors = vec![1.0; probabilities.len()];
        let mut todo: Vec<(&Node, f64)> = roots.iter().map(|root| (root, 1.0)).collect();
        while let Some((node, parent)) = todo.pop() {
            let own = node.feature_index.map_or(parent, |f| f64::from(probabilities[f]));
            let children = || node.children.iter().filter_map(|child| child.feature_index);
            let siblings = || children().map(|f| f64::from(probabilities[f]));
            let excludes = node.mutually_exclusive_children && children().count() >= 2;
            let total: f64 = siblings().sum();
            for (child, probability) in children().zip(siblings()).filter(|_| own > 0.0) {
                let others = if excludes { (total - probability).max(0.0) } else { 0.0 };
                factors[child] = (1.0 / own * (1.0 + others / own)) as f32;
            }
            todo.extend(node.children.iter().map(|child| (child, own)));
        }
        factors
    }

    /// Trees numbered level by level: roots first, then their children; where the features run out,
    /// the last parents have fewer children.
    pub(super) fn grow(n_features: usize, shape: Shape) -> Vec<Node> {
        let mut next = shape.roots.min(n_features);
        let mut level: Vec<usize> = (0..next).collect();
        let mut children = vec![Vec::new(); n_features];
        for _ in 0..shape.depth {
            let mut below = Vec::new();
            for parent in level {
                let end = n_features.min(next + shape.branching);
                children[parent] = (next..end).collect();
                below.extend(next..end);
                next = end;
            }
            level = below;
        }
        (0..shape.roots.min(n_features)).map(|root| shape.node(root, &children)).collect()
    }
}

/// The shape of regular trees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) roots: usize,
    pub(super) branching: usize,
    /// Levels below the roots.
    pub(super) depth: usize,
    pub(super) exclusive: bool,
    pub(super) scaled: bool,
}

impl Shape {
    fn node(self, feature: usize, children: &[Vec<usize>]) -> Node {
        let own = &children[feature];
        Node {
            feature_index: Some(feature),
            mutually_exclusive_children: self.exclusive && own.len() >= 2,
            scale_children_by_parent: self.scaled && !own.is_empty(),
            children: own.iter().map(|&child| self.node(child, children)).collect(),
            ..Node::default()
        }
    }
}
