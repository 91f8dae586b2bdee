//! The sort through files beside the sort in memory.

use proptest::prelude::*;

use super::*;

type Row = (u8, i64, i64, i32);
/// A device and its rows.
type Share = (Box<str>, Range<usize>);
/// A reading's time and the bits of its values.
type Seen = (i64, Vec<u64>);

fn gathered(rows: &[Row], limit: usize) -> (bool, Vec<Share>, Vec<Seen>) {
    let mut gather = Gather::new(&Room::new(limit, None), 2);
    gather.capacity = gather.capacity.min(limit);
    for (n, (device, ts, seq, idx)) in rows.iter().enumerate() {
        let name = format!("d{device}");
        let values = gather.push(&Arrival { device: &name, ts: *ts, seq: *seq, idx: *idx }).unwrap();
        // Tells where it came from, so that equal keys show their order.
        values[0] = n as f64;
    }
    let (readings, devices) = gather.finish().unwrap();
    let mut all = Vec::new();
    readings.each(0..readings.len(), |ts, values| all.push((ts, values.iter().map(|v| v.to_bits()).collect()))).unwrap();
    (readings.spilled(), devices, all)
}

proptest! {
    #[test]
    fn a_sort_through_files_is_the_sort_in_memory(
        rows in prop::collection::vec((0u8..4, 0i64..6, 0i64..3, 0i32..2), 1..200),
        limit in 1usize..50,
    ) {
        let (spilled, devices, all) = gathered(&rows, 1 << 30);
        prop_assert!(!spilled);
        let mut expected: Vec<(usize, &Row)> = rows.iter().enumerate().collect();
        expected.sort_by_key(|(_, row)| **row);
        let came: Vec<u64> = expected.iter().map(|(n, _)| (*n as f64).to_bits()).collect();
        prop_assert_eq!(all.iter().map(|r| r.1[0]).collect::<Vec<_>>(), came);
        let (spilled, same_devices, same) = gathered(&rows, limit);
        prop_assert_eq!(spilled, rows.len() > limit);
        prop_assert_eq!((same_devices, same), (devices, all));
    }
}

#[test]
fn devices_are_in_order_of_names_and_stretches_are_read_alone() {
    let rows = [(3, 1, 0, 0), (1, 5, 0, 0), (3, 0, 0, 0), (1, 4, 0, 0), (1, 6, 0, 0)];
    for limit in [2, 1 << 20] {
        let (_, devices, all) = gathered(&rows, limit);
        let found: Vec<_> = devices.iter().map(|(n, r)| (&**n, r.clone())).collect();
        assert_eq!(found, [("d1", 0..3), ("d3", 3..5)]);
        assert_eq!(all.iter().map(|r| r.0).collect::<Vec<_>>(), [4, 5, 6, 0, 1]);
    }
}
