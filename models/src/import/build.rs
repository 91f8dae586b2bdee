//! Trees as libraries number their nodes, hung one by one into the flat form, in which a child stands after its parent.

use crate::ensemble::{Ensemble, Node};

use super::{BadImport, bad};

/// A node as a library has it; children are the library's own numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// An inner node.
    Split { feature: u32, threshold: f64, missing_left: bool, left: usize, right: usize },
    /// A leaf with its value and its training weight.
    Leaf { value: f64, cover: f64 },
}

/// Adds one tree of `parts` nodes, numbered from 0, to `ensemble`. Nodes that do not hang from `root` are left out.
pub(super) fn add_tree(
    ensemble: &mut Ensemble,
    place: &str,
    parts: usize,
    root: usize,
    part: impl Fn(usize) -> Result<Part, BadImport>,
) -> Result<(), BadImport> {
    let mut seen = vec![false; parts];
    let mut waiting = vec![(root, Slot::Root)];
    while let Some((number, slot)) = waiting.pop() {
        match seen.get_mut(number) {
            Some(seen) if !*seen => *seen = true,
            Some(_) => return bad(place, format!("node {number} below two nodes"), "a tree"),
            None => return bad(place, format!("child {number}"), format!("a node below {parts}")),
        }
        let at = match part(number)? {
            Part::Leaf { value, cover } => {
                ensemble.leaves.push(value);
                ensemble.cover.push(cover);
                !reference(place, ensemble.cover.len() - 1)?
            }
            Part::Split { feature, threshold, missing_left, left, right } => {
                let at = ensemble.nodes.len();
                ensemble.nodes.push(Node { feature, threshold, missing_left, left: 0, right: 0 });
                waiting.extend([(right, Slot::Right(at)), (left, Slot::Left(at))]);
                reference(place, at)?
            }
        };
        match slot {
            Slot::Root => ensemble.roots.push(at),
            Slot::Left(parent) => ensemble.nodes[parent].left = at,
            Slot::Right(parent) => ensemble.nodes[parent].right = at,
        }
    }
    Ok(())
}

/// What a node hangs from.
#[derive(Clone, Copy)]
enum Slot {
    Root,
    Left(usize),
    Right(usize),
}

/// An index as a child reference.
fn reference(place: &str, index: usize) -> Result<i32, BadImport> {
    i32::try_from(index).or_else(|_| bad(place, index, format!("at most {} nodes", i32::MAX)))
}
