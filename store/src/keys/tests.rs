//! Keys print and parse back, and each has one spelling only.

use proptest::prelude::*;

use super::*;

const DAY: i64 = 86_400_000;
/// 0001-01-01T00:00:00Z and the last millisecond of the year 9999.
const YEARS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

fn archive_key(ts: i64, table: Table, hourly: bool) -> ArchiveKey {
    let partition = if hourly { Partition::hour(table, ts) } else { Partition::day(table, ts) };
    ArchiveKey::new(partition.unwrap(), WriterId::from_bytes([0xab; 8]), 7, 4096).unwrap()
}

#[test]
fn prints_the_documented_forms() {
    let ts = 1_795_353_300_000; // 2026-11-22T13:15:00Z
    let day = archive_key(ts, Table::Telemetry, false).to_string();
    assert_eq!(day, "telemetry/date=2026-11-22/abababababababab-7-4096.parquet");
    let hour = archive_key(ts, Table::Scores, true).to_string();
    assert_eq!(hour, "scores/date=2026-11-22/hour=13/abababababababab-7-4096.parquet");
    let cold = Partition::day(Table::Events, ts).unwrap().cold();
    assert_eq!(Key::Manifest(cold).to_string(), "cold/events/date=2026-11-22/_manifest.json");
    assert_eq!(WriterId::compaction([0xab; 8], false).as_str(), "compactedabababababababab");
    assert_eq!(WriterId::compaction([0xab; 8], true).compacted(), Some(Compacted::Cold));
    let name: ModelName = "drone".parse().unwrap();
    let version = ModelVersion::new(ts, 0xff_3f_a9_c1).unwrap();
    let key = Key::Model { name: name.clone(), version, file: ModelFile::Model };
    assert_eq!(key.to_string(), "models/drone/20261122T131500Z-3fa9c1/model.json");
    assert_eq!(Key::Training { name: name.clone() }.to_string(), "models/drone/training.json");
    assert_eq!("models/drone/training.json".parse(), Ok(Key::Training { name: name.clone() }));
    assert_eq!(Key::Champion { name }.to_string(), "models/drone/champion.json");
}

#[test]
fn dates_are_floored_and_far_times_are_refused() {
    let day = |ts| Partition::day(Table::Events, ts).map(|p| p.to_string());
    assert_eq!(day(0).unwrap(), "events/date=1970-01-01");
    assert_eq!(day(-1).unwrap(), "events/date=1969-12-31");
    assert_eq!(day(-DAY).unwrap(), "events/date=1969-12-31");
    assert_eq!(day(-DAY - 1).unwrap(), "events/date=1969-12-30");
    assert_eq!(day(*YEARS.start()).unwrap(), "events/date=0001-01-01");
    assert_eq!(day(*YEARS.end()).unwrap(), "events/date=9999-12-31");
    for far in [i64::MIN, YEARS.start() - 1, YEARS.end() + 1, i64::MAX] {
        assert_eq!(day(far).unwrap_err().found, far.to_string());
        assert!(ModelVersion::new(far, 0).is_err());
    }
}

#[test]
fn other_spellings_are_no_keys() {
    let texts = [
        "",
        "telemetry",
        "telemetry/date=2026-11-22/",
        "telemetry/date=2026-11-22/x.parquet",
        "telemetry/date=2026-11-22/abababab-1-2.parquet.tmp",
        "telemetry/date=2026-11-22/abababab-01-2.parquet",
        "telemetry/date=2026-11-22/abababab-+1-2.parquet",
        "telemetry/date=2026-11-22/abababab-3-2.parquet",
        "telemetry/date=2026-11-22/abababab-1-18446744073709551616.parquet",
        "telemetry/date=2026-11-22/ABABABAB-1-2.parquet",
        "telemetry/date=2026-11-22/abababa-1-2.parquet",
        "telemetry/date=2026-02-30/abababab-1-2.parquet",
        "telemetry/date=2026-2-03/abababab-1-2.parquet",
        "telemetry/date=0000-02-03/abababab-1-2.parquet",
        "telemetry/date=2026-11-22/hour=24/abababab-1-2.parquet",
        "telemetry/date=2026-11-22/hour=1/abababab-1-2.parquet",
        "telemetry/date=2026-11-22/hour=01/x/abababab-1-2.parquet",
        "/telemetry/date=2026-11-22/abababab-1-2.parquet",
        "cold/cold/telemetry/date=2026-11-22/abababab-1-2.parquet",
        "telemetry/_manifest.json",
        "other/date=2026-11-22/abababab-1-2.parquet",
        "models/drone",
        "models/drone/other.json",
        "models/Drone/champion.json",
        "models//champion.json",
        "models/../champion.json",
        "models/drone/20261122T131500Z-3FA9C1/model.json",
        "models/drone/20261322T131500Z-3fa9c1/model.json",
        "models/drone/20261122T131500Z-3fa9c1/model.bin",
        "models/drone/20261122T131500Z-3fa9c1/a/model.json",
    ];
    for text in texts {
        assert!(text.parse::<Key>().is_err(), "{text:?} was read as a key");
    }
}

#[test]
fn keys_sort_by_sequence_not_by_text() {
    let partition = Partition::day(Table::Telemetry, 0).unwrap();
    let key = |first| ArchiveKey::new(partition, WriterId::from_bytes([1; 8]), first, first).unwrap();
    assert!(key(9) < key(10));
}

#[test]
fn keys_under_a_prefix_are_found_again_and_foreign_objects_are_not() {
    let root = Path::parse("a b/fleet").unwrap();
    let key = Key::from(archive_key(0, Table::Events, true));
    let path = path_under(&root, &key);
    assert_eq!(key_at(&root, &path), Some(key.clone()));
    assert_eq!(key_at(&Path::parse("a b").unwrap(), &path), None);
    assert_eq!(key_at(&root, &Path::parse("a b/fleet/readme.txt").unwrap()), None);
    assert_eq!(path_under(&Path::default(), &key).as_ref(), key.to_string());
    assert_eq!(path_under(&root, &Prefix::All), root);
}

proptest! {
    #[test]
    fn archive_keys_round_trip(
        ts in YEARS, table in 0usize..4, hourly: bool, cold: bool, writer in "[a-z0-9]{8,32}", a: u64, b: u64,
    ) {
        let table = Table::ALL[table];
        let hot = if hourly { Partition::hour(table, ts) } else { Partition::day(table, ts) }.unwrap();
        let partition = if cold { hot.cold() } else { hot };
        prop_assert_eq!((partition.is_cold(), partition.hot()), (cold, hot));
        let manifest = Key::Manifest(partition);
        prop_assert_eq!(manifest.to_string().parse::<Key>().unwrap(), manifest);
        let key = Key::from(ArchiveKey::new(partition, writer.parse().unwrap(), a.min(b), a.max(b)).unwrap());
        prop_assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
        let (from, to) = partition.range_ms();
        prop_assert!(from <= ts && ts < to);
        prop_assert_eq!(to - from, if hourly { DAY / 24 } else { DAY });
    }

    #[test]
    fn model_keys_round_trip(name in "[a-z0-9][a-z0-9_-]{0,63}", ts in YEARS, digest: u64, file in 0usize..3) {
        let name: ModelName = name.parse().unwrap();
        let version = ModelVersion::new(ts, digest).unwrap();
        let key = Key::Model { name: name.clone(), version, file: ModelFile::ALL[file] };
        prop_assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
        let champion = Key::Champion { name };
        prop_assert_eq!(champion.to_string().parse::<Key>().unwrap(), champion);
    }

    #[test]
    fn what_parses_prints_back_the_same(text in "(models|telemetry)/[a-z0-9=/.-]{0,60}") {
        if let Ok(key) = text.parse::<Key>() {
            prop_assert_eq!(key.to_string(), text);
        }
    }

    #[test]
    fn versions_sort_by_time(a in YEARS, b in YEARS) {
        let (va, vb) = (ModelVersion::new(a, 0).unwrap(), ModelVersion::new(b, 0).unwrap());
        prop_assert_eq!(va.cmp(&vb), (a.div_euclid(1000)).cmp(&b.div_euclid(1000)));
    }
}
