//! The archive read back through the store's own codec.

use std::collections::BTreeMap;

use bytes::Bytes;
use homeward_store::Store;
use homeward_store::archive::{read_events, read_quarantine, read_scores, read_telemetry};
use homeward_store::keys::{Key, Prefix, Table};

/// A store's archive; each object is read once, so that asking again and again is cheap.
pub(crate) struct Archive {
    store: Store,
    runtime: tokio::runtime::Runtime,
    rows: BTreeMap<(Table, Key), usize>,
}

/// A row of the quarantine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quarantined {
    pub(crate) reason: String,
    pub(crate) idx: i32,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) detail: String,
}

impl Archive {
    /// The archive in the local store of `site`.
    pub(crate) fn of(site: &super::Site) -> Self {
        let url = format!("file://{}", site.path("store").display());
        let store = Store::open(&url, std::iter::empty()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { store, runtime, rows: BTreeMap::new() }
    }

    /// Rows of a table.
    pub(crate) fn count(&mut self, table: Table) -> usize {
        for key in self.keys(table) {
            let id = (table, key);
            if !self.rows.contains_key(&id) {
                let rows = rows(table, self.get(&id.1));
                self.rows.insert(id, rows);
            }
        }
        self.rows.iter().filter(|((t, _), _)| *t == table).map(|(_, rows)| rows).sum()
    }

    /// Device, `ts` and one signal of every reading, sorted.
    pub(crate) fn readings(&self, signal: &str) -> Vec<(String, i64, f64)> {
        let mut all = Vec::new();
        for key in self.keys(Table::Telemetry) {
            let table = read_telemetry(self.get(&key)).unwrap();
            let values = table.signal(signal).unwrap();
            all.extend((0..table.len()).map(|i| (table.device.get(i).unwrap().to_owned(), table.ts[i], values[i])));
        }
        all.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        all
    }

    /// Device, `ts` and code of every event, sorted.
    pub(crate) fn events(&self) -> Vec<(String, i64, String)> {
        let mut all = Vec::new();
        for key in self.keys(Table::Events) {
            let table = read_events(self.get(&key)).unwrap();
            let rows = (0..table.len()).map(|i| table.row(i).unwrap());
            all.extend(rows.map(|r| (r.device.to_owned(), r.ts, r.event.to_owned())));
        }
        all.sort();
        all
    }

    /// Every row of the quarantine, sorted by reason.
    pub(crate) fn quarantine(&self) -> Vec<Quarantined> {
        let mut all = Vec::new();
        for key in self.keys(Table::Quarantine) {
            let table = read_quarantine(self.get(&key)).unwrap();
            all.extend((0..table.len()).map(|i| Quarantined {
                reason: table.reason.get(i).unwrap().to_owned(),
                idx: table.idx[i],
                topic: table.topic.get(i).unwrap().to_owned(),
                payload: table.payload.get(i).unwrap().to_owned(),
                detail: table.detail.get(i).unwrap().to_owned(),
            }));
        }
        all.sort();
        all
    }

    /// Every object of a table: its key and bytes, in order.
    pub(crate) fn objects(&self, table: Table) -> Vec<(String, Bytes)> {
        self.keys(table).into_iter().map(|key| (key.to_string(), self.get(&key))).collect()
    }

    fn keys(&self, table: Table) -> Vec<Key> {
        let entries = self.runtime.block_on(self.store.list(&Prefix::Table(table))).unwrap();
        entries.into_iter().map(|e| e.key).collect()
    }

    fn get(&self, key: &Key) -> Bytes {
        self.runtime.block_on(self.store.get(key)).unwrap()
    }
}

fn rows(table: Table, bytes: Bytes) -> usize {
    match table {
        Table::Telemetry => read_telemetry(bytes).unwrap().len(),
        Table::Events => read_events(bytes).unwrap().len(),
        Table::Quarantine => read_quarantine(bytes).unwrap().len(),
        Table::Scores => read_scores(bytes).unwrap().len(),
    }
}
