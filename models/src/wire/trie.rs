//! A trie of the signals' JSON Pointers: which field of which object or array element belongs to which signal.

use crate::Fleet;
use crate::fleet::Source;

/// The trie's root.
pub(super) const ROOT: usize = 0;

/// What a claimed field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// An object or array with claimed fields inside: the node.
    Inside(usize),
    /// The value of the signal with this index.
    Signal(usize),
    /// The reading's time.
    Ts,
    /// The device's own word on who it is.
    Device,
}

/// A field's name and what it holds.
#[derive(Debug, Clone)]
struct Child {
    token: String,
    index: Option<usize>,
    claim: Claim,
}

/// Nodes with their children; few children each, so a scan beats a hash.
#[derive(Debug, Clone)]
pub(super) struct Trie {
    nodes: Vec<Vec<Child>>,
}

impl Trie {
    pub(super) fn new(fleet: &Fleet) -> Self {
        let fixed = |token: &str, claim| Child { token: token.into(), index: None, claim };
        let mut trie = Self { nodes: vec![vec![fixed("ts", Claim::Ts), fixed("device", Claim::Device)]] };
        for (signal, channel) in fleet.signals().iter().enumerate() {
            if let Source::Measured { tokens, .. } = &channel.source {
                trie.insert(tokens, signal);
            }
        }
        trie
    }

    fn insert(&mut self, tokens: &[String], signal: usize) {
        let mut node = ROOT;
        for (depth, token) in tokens.iter().enumerate() {
            let last = depth + 1 == tokens.len();
            node = match self.field(node, token).map(|child| self.claim(node, child)) {
                Some(Claim::Inside(inside)) => inside,
                _ => self.add(node, token, last.then_some(signal)),
            };
        }
    }

    fn add(&mut self, node: usize, token: &str, signal: Option<usize>) -> usize {
        let fresh = self.nodes.len();
        let claim = signal.map_or(Claim::Inside(fresh), Claim::Signal);
        if signal.is_none() {
            self.nodes.push(Vec::new());
        }
        self.nodes[node].push(Child { token: token.into(), index: token.parse().ok(), claim });
        fresh
    }

    /// The child of `node` named `token`, if a signal claims it.
    pub(super) fn field(&self, node: usize, token: &str) -> Option<usize> {
        self.nodes[node].iter().position(|c| c.token == token)
    }

    /// The child of `node` that is its element `index`, if a signal claims it.
    pub(super) fn element(&self, node: usize, index: usize) -> Option<usize> {
        self.nodes[node].iter().position(|c| c.index == Some(index))
    }

    /// What a child holds.
    pub(super) fn claim(&self, node: usize, child: usize) -> Claim {
        self.nodes[node][child].claim
    }

    /// The name of a child.
    pub(super) fn token(&self, node: usize, child: usize) -> &str {
        &self.nodes[node][child].token
    }
}
