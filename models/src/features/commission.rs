//! A channel's normal value: its mean over the commissioning stretch, the time after the device was first heard or its component
//! was last maintained.

use super::spec::FeatureSpec;

/// Where a stretch stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stretch {
    /// `ts` of its first reading; `None` until there is one.
    pub(super) start: Option<i64>,
    /// Whether a reading after the stretch has been accepted.
    pub(super) over: bool,
}

/// The stretches of a device: one a component, and one for the channels that watch none.
#[derive(Debug, Clone)]
pub(super) struct Commissioning {
    pub(super) stretches: Vec<Stretch>,
    /// Of each channel: values in the stretch, and their mean less the first of them.
    pub(super) n: Vec<f64>,
    pub(super) mean: Vec<f64>,
    pub(super) first: Vec<f64>,
}

impl Commissioning {
    pub(super) fn new(spec: &FeatureSpec) -> Self {
        let channels = spec.channels().len();
        let zeros = vec![0.0; channels];
        Self { stretches: vec![Stretch::default(); spec.fleet().components.len() + 1], n: zeros.clone(), mean: zeros.clone(), first: zeros }
    }

    /// Takes a reading.
    pub(super) fn absorb(&mut self, spec: &FeatureSpec, ts: i64, values: &[f64]) {
        if self.stretches.iter().all(|s| s.over) {
            return;
        }
        for stretch in &mut self.stretches {
            let start = *stretch.start.get_or_insert(ts);
            stretch.over = stretch.over || ts - start >= spec.fleet().commissioning;
        }
        for (c, x) in values.iter().enumerate() {
            if self.stretches[spec.group(c)].over || x.is_nan() {
                continue;
            }
            if self.n[c] == 0.0 {
                self.first[c] = *x;
            }
            self.n[c] += 1.0;
            self.mean[c] += (x - self.first[c] - self.mean[c]) / self.n[c];
        }
    }

    /// Begins the stretches of `component` anew, and that of the channels that watch none; `None` begins all.
    pub(super) fn begin(&mut self, spec: &FeatureSpec, component: Option<usize>) {
        let none = self.stretches.len() - 1;
        self.reset(spec, |group, _| component.is_none_or(|c| group == c) || group == none);
    }

    /// Time begins anew: a stretch that is not over cannot be measured on.
    pub(super) fn restart(&mut self, spec: &FeatureSpec) {
        self.reset(spec, |_, stretch| !stretch.over);
    }

    fn reset(&mut self, spec: &FeatureSpec, which: impl Fn(usize, Stretch) -> bool) {
        for c in 0..self.n.len() {
            let group = spec.group(c);
            if which(group, self.stretches[group]) {
                (self.n[c], self.mean[c]) = (0.0, 0.0);
            }
        }
        for (group, stretch) in self.stretches.iter_mut().enumerate() {
            if which(group, *stretch) {
                *stretch = Stretch::default();
            }
        }
    }

    /// `last` less the normal value of channel `c`; NaN until its stretch is over or if it had no value.
    pub(super) fn less_normal(&self, spec: &FeatureSpec, c: usize, last: f64) -> f64 {
        let known = self.stretches[spec.group(c)].over && self.n[c] > 0.0;
        if known { last - self.first[c] - self.mean[c] } else { f64::NAN }
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        (self.n.capacity() + self.mean.capacity() + self.first.capacity()) * 8 + self.stretches.capacity() * size_of::<Stretch>()
    }
}
