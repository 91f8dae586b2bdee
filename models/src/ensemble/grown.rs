//! Random ensembles and rows for tests and benchmarks: trees grown by splitting a random leaf, so that depths differ as a booster's do.

use homeward_models::ensemble::{Arithmetic, Ensemble, Left, Link, Node, Precision};

/// A stream of numbers that a seed determines (splitmix64, Steele et al. 2014).
pub struct Chance(pub u64);

impl Chance {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// What to grow.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub trees: usize,
    pub leaves: usize,
    pub features: usize,
    pub horizons: usize,
    pub arithmetic: Arithmetic,
    /// Thresholds and values are multiples of one over this, so that many are equal; 0 for all different.
    pub grid: usize,
}

impl Shape {
    /// The shape of the benchmarks: 100 trees of 31 leaves over 400 features.
    pub fn booster() -> Self {
        Self { trees: 100, leaves: 31, features: 400, horizons: 1, arithmetic: Arithmetic::default(), grid: 0 }
    }

    /// An ensemble of this shape; its thresholds, and values of rows, lie between 0 and 1.
    pub fn ensemble(&self, chance: &mut Chance) -> Ensemble {
        let mut e = Ensemble {
            link: Link::Logistic,
            arithmetic: self.arithmetic,
            features: self.features,
            horizons: self.horizons,
            base: (0..self.horizons).map(|_| self.arithmetic.sum.round(chance.unit())).collect(),
            roots: Vec::new(),
            nodes: Vec::new(),
            leaves: Vec::new(),
            cover: Vec::new(),
        };
        for _ in 0..self.trees {
            self.tree(&mut e, chance);
        }
        e.check().unwrap()
    }

    fn tree(&self, e: &mut Ensemble, chance: &mut Chance) {
        let (first_node, first_leaf) = (e.nodes.len(), e.cover.len());
        // Leaves are numbered as they come; a split keeps the leaf as its left child and adds one as its right.
        let mut above: Vec<Option<(usize, bool)>> = vec![None];
        e.cover.push(1000.0);
        for right in 1..self.leaves {
            let leaf = chance.below(right);
            let at = e.nodes.len();
            if let Some((parent, is_left)) = above[leaf] {
                let child = if is_left { &mut e.nodes[parent].left } else { &mut e.nodes[parent].right };
                *child = at as i32;
            }
            let threshold = self.value(0.2 + 0.6 * chance.unit());
            let (left, right_ref) = (!((first_leaf + leaf) as i32), !((first_leaf + right) as i32));
            let feature = chance.below(self.features) as u32;
            e.nodes.push(Node { feature, threshold, missing_left: chance.below(2) == 0, left, right: right_ref });
            let cover = e.cover[first_leaf + leaf];
            let share = if chance.below(20) == 0 { 0.0 } else { chance.unit() };
            e.cover[first_leaf + leaf] = cover * share;
            e.cover.push(cover * (1.0 - share));
            above[leaf] = Some((at, true));
            above.push(Some((at, false)));
        }
        e.roots.push(if self.leaves > 1 { first_node as i32 } else { !(first_leaf as i32) });
        let values = self.leaves * self.horizons;
        e.leaves.extend((0..values).map(|_| self.arithmetic.sum.round(chance.unit() - 0.5)));
    }

    /// `count` rows, one after the other, of which `missing` of all values are.
    pub fn rows(&self, chance: &mut Chance, count: usize, missing: f64) -> Vec<f64> {
        (0..count * self.features).map(|_| if chance.unit() < missing { f64::NAN } else { self.value(chance.unit()) }).collect()
    }

    fn value(&self, x: f64) -> f64 {
        let x = if self.grid > 0 { (x * self.grid as f64).round() / self.grid as f64 } else { x };
        self.arithmetic.compare.round(x)
    }
}

/// Every arithmetic there is.
pub fn arithmetics() -> Vec<Arithmetic> {
    let precisions = [Precision::F64, Precision::F32];
    let all = precisions.into_iter().flat_map(|compare| {
        let lefts = [Left::AtMost, Left::Below];
        lefts.into_iter().flat_map(move |left| precisions.map(move |sum| Arithmetic { compare, left, sum }))
    });
    all.collect()
}
