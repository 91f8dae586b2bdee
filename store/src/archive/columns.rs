//! Flat columns: texts and binary values in one buffer, names interned once a batch. Nothing is allocated per row but
//! by the buffers' growth.

use std::collections::HashMap;

/// Binary values, or none, by row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Blobs {
    data: Vec<u8>,
    /// Where each row's value ends in `data`; a row without a value ends where the one before does.
    ends: Vec<usize>,
    /// Which rows have a value; empty as long as all have.
    present: Vec<bool>,
}

impl Blobs {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The value of a row; `None` if it has none or there is no such row.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        if row < self.len() { self.data.get(self.range(row)?) } else { None }
    }

    /// All rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|row| self.get(row))
    }

    pub(super) fn push(&mut self, value: Option<&[u8]>) {
        if value.is_none() && self.present.is_empty() {
            self.present.resize(self.ends.len(), true);
        }
        if value.is_none() || !self.present.is_empty() {
            self.present.push(value.is_some());
        }
        self.data.extend_from_slice(value.unwrap_or_default());
        self.ends.push(self.data.len());
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.ends.len() * size_of::<usize>() + self.present.len()
    }

    /// All values one after the other.
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    /// Where in [`Blobs::data`] the value of a row lies, if it has one.
    pub(super) fn range(&self, row: usize) -> Option<std::ops::Range<usize>> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        (self.present.get(row) != Some(&false)).then(|| start..self.ends[row])
    }
}

/// Texts, or none, by row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts(Blobs);

impl Texts {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of a row; `None` if it has none or there is no such row.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&str> {
        // What goes in is UTF-8, so this is always a text.
        self.0.get(row).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// All rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        (0..self.len()).map(|row| self.get(row))
    }

    pub(super) fn push(&mut self, value: Option<&str>) {
        self.0.push(value.map(str::as_bytes));
    }

    pub(super) fn blobs(&self) -> &Blobs {
        &self.0
    }

    pub(super) fn into_blobs(self) -> Blobs {
        self.0
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// `blobs` as texts, or the first row that is not UTF-8.
    pub(super) fn checked(blobs: Blobs) -> Result<Self, usize> {
        let bad = blobs.iter().position(|v| v.is_some_and(|v| std::str::from_utf8(v).is_err()));
        bad.map_or(Ok(Self(blobs)), Err)
    }
}

/// Texts of which there are few different ones, like device names: each kept once, a number by row.
#[derive(Debug, Clone, Default)]
pub(super) struct Interned {
    numbers: HashMap<Box<str>, u32>,
    names: Vec<Box<str>>,
    rows: Vec<u32>,
    name_bytes: usize,
}

impl Interned {
    pub(super) fn push(&mut self, name: &str) {
        // Devices often send in bursts: the last one's name first.
        let last = self.rows.last().copied().filter(|&n| &*self.names[n as usize] == name);
        let known = last.or_else(|| self.numbers.get(name).copied());
        let number = known.unwrap_or_else(|| self.add(name));
        self.rows.push(number);
    }

    fn add(&mut self, name: &str) -> u32 {
        // A batch has fewer than 2^32 rows (the encoder sees to it), so fewer names.
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.into());
        self.numbers.insert(name.into(), number);
        self.name_bytes += 2 * name.len() + 64;
        number
    }

    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }

    pub(super) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    pub(super) fn bytes(&self) -> usize {
        self.name_bytes + self.rows.len() * size_of::<u32>()
    }

    /// Each name's place in the sorted list of names.
    fn ranks(&self) -> Vec<u32> {
        let mut sorted: Vec<u32> = (0..).take(self.names.len()).collect();
        sorted.sort_unstable_by(|&a, &b| self.names[a as usize].cmp(&self.names[b as usize]));
        let mut ranks = vec![0; sorted.len()];
        for (rank, &number) in (0..).zip(&sorted) {
            ranks[number as usize] = rank;
        }
        ranks
    }
}

/// The order of rows by name, then by ts, seq, idx; equal rows keep their order. Rows mostly come in order within a
/// device, so each device's rows are collected first and then sorted only where they need it.
pub(super) fn order(names: &Interned, ts: &[i64], seq: &[i64], idx: &[i32]) -> Vec<u32> {
    let ranks = names.ranks();
    let rank_of = |row: usize| ranks[names.rows[row] as usize] as usize;
    let mut ends = vec![0usize; ranks.len() + 1];
    for row in 0..names.rows.len() {
        ends[rank_of(row) + 1] += 1;
    }
    for rank in 0..ranks.len() {
        ends[rank + 1] += ends[rank];
    }
    let mut next = ends.clone();
    let mut order = vec![0u32; names.rows.len()];
    for (row, number) in (0..names.rows.len()).zip(0u32..) {
        let at = &mut next[rank_of(row)];
        order[*at] = number;
        *at += 1;
    }
    let key = |row: &u32| (ts[*row as usize], seq[*row as usize], idx[*row as usize]);
    for pair in ends.windows(2) {
        let rows = &mut order[pair[0]..pair[1]];
        if !rows.is_sorted_by_key(key) {
            rows.sort_by_key(key);
        }
    }
    order
}
