//! What the journal promises, over a disk that forgets, fails and lies.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::forgetful::{Forgetful, Op, Survives};
use super::*;
use crate::inbox::Incoming;

/// What a workload knows to be true from some operation on.
#[derive(Debug, Clone, PartialEq)]
enum Fact {
    /// The message at this position is this one.
    Sent(u64, String),
    Acked(u64),
    /// From here on the reader may be found there, and with this note.
    Releasing(&'static str, u64),
    Noting(&'static str, u64, String),
    /// From here on it must be.
    Kept(&'static str, u64, String),
}

type TestDisk = Forgetful<Fact>;

fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: 400,
        reserve_bytes: 700,
        max_bytes: 1 << 20,
        sync_every: Duration::ZERO,
        ..JournalOptions::new("j", [7; 8])
    }
}

fn open(disk: &TestDisk) -> Result<Core<TestDisk>, JournalError> {
    Core::open(disk.clone(), options())
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn incoming(text: &str) -> Incoming {
    Incoming::new("t", text.to_owned(), 50)
}

fn settled(core: &Core<TestDisk>) {
    let until = Instant::now() + Duration::from_secs(10);
    while !core.shared.lock().is_synced() {
        assert!(Instant::now() < until, "nothing is synced");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Every message that can be read from `from` on.
fn messages(core: &Core<TestDisk>, from: u64) -> Result<Vec<Message>, ReadError> {
    let mut all = Vec::new();
    core.shared.lock().closed = true;
    core.shared.work.notify_one();
    let mut next = from;
    runtime().block_on(async {
        loop {
            match core.read("test", next, 3, &mut all).await {
                Ok(()) => next = all.last().unwrap().position + 1,
                Err(ReadError::Closed) => return Ok(all),
                Err(error) => return Err(error),
            }
        }
    })
}

fn texts(messages: &[Message]) -> Vec<(u64, String)> {
    messages.iter().map(|m| (m.position, String::from_utf8(m.payload.to_vec()).unwrap())).collect()
}

/// Appends and reports what was acknowledged, as facts in the disk's log.
struct Workload<'a> {
    disk: &'a TestDisk,
    core: Core<TestDisk>,
    unacked: BTreeMap<u16, u64>,
}

impl<'a> Workload<'a> {
    fn begin(disk: &'a TestDisk) -> Self {
        let core = open(disk).unwrap();
        core.shared.lock().begin_epoch();
        Self { disk, core, unacked: BTreeMap::new() }
    }

    fn send(&mut self, texts: &[&str]) {
        let first = self.core.shared.lock().end();
        let mut batch = Vec::new();
        for (position, text) in (first..).zip(texts) {
            let id = u16::try_from(position).unwrap() + 1;
            self.disk.fact(Fact::Sent(position, (*text).to_owned()));
            self.unacked.insert(id, position);
            batch.push((incoming(text), id));
        }
        self.core.append_batch(&mut batch);
        settled(&self.core);
        let mut acks = Vec::new();
        self.core.shared.lock().take_acks(&mut acks);
        acks.iter().for_each(|id| self.disk.fact(Fact::Acked(self.unacked.remove(id).unwrap())));
    }

    fn release(&self, reader: &'static str, up_to: u64) {
        self.disk.fact(Fact::Releasing(reader, up_to));
        self.core.release(reader, up_to).unwrap();
    }

    fn keep(&self, reader: &'static str, note: &str) {
        let mark = self.core.shared.lock().reader(reader).unwrap().mark;
        self.disk.fact(Fact::Noting(reader, mark, note.to_owned()));
        runtime().block_on(self.core.keep_note(reader, Bytes::from(note.to_owned()))).unwrap();
        self.disk.fact(Fact::Kept(reader, mark, note.to_owned()));
    }
}

/// Appends, syncs, rotations, releases, notes, deletions, two readers, processes that end in order and by kill.
fn workload(disk: &TestDisk) {
    let long = "x".repeat(150);
    let mut run = Workload::begin(disk);
    run.core.attach("one").unwrap();
    run.core.attach("two").unwrap();
    run.send(&["a", "b"]);
    run.send(&["c"]);
    run.keep("one", "first");
    run.send(&[&long, "d", &format!("{long}1")]);
    run.release("one", 5);
    run.keep("one", "second");
    run.send(&["e", "f", "g"]);
    run.release("two", 5);
    run.keep("two", "other");
    run.send(&["h"]);
    drop(run);
    let mut run = Workload::begin(disk);
    run.send(&["i", &format!("{long}2"), "j"]);
    run.release("one", 10);
    run.release("two", 10);
    run.keep("one", "third");
    run.keep("two", "");
    run.send(&["k", "a"]);
    drop(run);
}

/// Opens what a power loss after `log` leaves, and checks every promise that the facts in it make.
fn check_power_loss(log: &[Op<Fact>], survives: Survives) -> Result<(), String> {
    let facts = || log.iter().filter_map(|op| if let Op::Fact(fact) = op { Some(fact) } else { None });
    let disk = TestDisk::after_power_loss(log, survives);
    let core = open(&disk).map_err(|e| format!("does not open: {e}"))?;
    check_readers(&core, facts().cloned().collect())?;
    let sent: BTreeMap<u64, String> =
        facts().filter_map(|f| if let Fact::Sent(at, text) = f { Some((*at, text.clone())) } else { None }).collect();
    let end = core.shared.lock().end();
    // Resending everything comes first: reading ends with closing.
    check_repeats(&core, &sent, end)?;
    let read: BTreeMap<u64, String> = texts(&messages(&core, 0).map_err(|e| e.to_string())?).into_iter().collect();
    for (at, text) in read.range(..end) {
        if sent.get(at) != Some(text) {
            return Err(format!("position {at}: found {text:?}, sent {:?}", sent.get(at)));
        }
    }
    let released = core.shared.lock().released();
    for fact in facts() {
        if let Fact::Acked(at) = fact
            && *at >= released
            && !read.contains_key(at)
        {
            return Err(format!("acknowledged message {at} is gone"));
        }
    }
    Ok(())
}

fn check_readers(core: &Core<TestDisk>, facts: Vec<Fact>) -> Result<(), String> {
    for name in ["one", "two"] {
        let (mut least, mut most, mut notes) = (0, 0, vec![None]);
        for fact in &facts {
            match fact {
                Fact::Releasing(n, to) if *n == name => most = *to,
                Fact::Noting(n, _, note) if *n == name => notes.push(Some(note.clone())),
                Fact::Kept(n, mark, note) if *n == name => (least, notes) = (*mark, vec![Some(note.clone())]),
                _ => (),
            }
        }
        let state = core.shared.lock();
        let known = state.readers().iter().find(|r| r.name == name).cloned();
        let (mark, note) = known.map_or((0, None), |r| (r.mark, r.note.map(|n| String::from_utf8(n.to_vec()).unwrap())));
        if !(least..=most).contains(&mark) {
            return Err(format!("reader {name} is at {mark}, expected {least} to {most}"));
        }
        let empty_is_none = |note: &Option<String>| note.clone().filter(|n| !n.is_empty());
        if !notes.iter().any(|n| empty_is_none(n) == note) {
            return Err(format!("reader {name} has the note {note:?}, expected one of {notes:?}"));
        }
    }
    Ok(())
}

/// A broker sends everything again: what is safe is known, and what was lost is news.
fn check_repeats(core: &Core<TestDisk>, sent: &BTreeMap<u64, String>, end: u64) -> Result<(), String> {
    for text in sent.values().collect::<std::collections::BTreeSet<_>>() {
        let safe = sent.iter().any(|(at, t)| t == text && *at < end);
        let before = core.shared.lock().stats().repeats;
        core.shared.append_one(incoming(text));
        let repeat = core.shared.lock().stats().repeats > before;
        if repeat != safe {
            return Err(format!(
                "{text:?} sent again is called {}, though its copy is {}",
                if repeat { "a repeat" } else { "news" },
                if safe { "safe" } else { "lost" }
            ));
        }
    }
    Ok(())
}

fn every_power_loss(disk: &TestDisk) -> Result<usize, String> {
    let log = disk.log();
    let mut tried = 0;
    for end in 0..=log.len() {
        let random = (0..3).map(|seed| Survives::Some(end as u64 * 3 + seed));
        for survives in [Survives::Nothing, Survives::Everything].into_iter().chain(random) {
            check_power_loss(&log[..end], survives).map_err(|e| format!("after operation {end} of {}, {survives:?}: {e}", log.len()))?;
            tried += 1;
        }
    }
    Ok(tried)
}

#[test]
fn no_power_loss_at_any_operation_breaks_a_promise() {
    let disk = TestDisk::new();
    workload(&disk);
    let removed = disk.log().iter().filter(|op| matches!(op, Op::Remove(path) if path.extension().is_some_and(|e| e == "seg"))).count();
    assert!(removed >= 2, "the workload deletes segments");
    let tried = every_power_loss(&disk).unwrap();
    assert!(tried > 500, "{tried}");
}

#[test]
fn a_disk_that_only_says_it_syncs_is_found_out() {
    let disk = TestDisk::lying();
    workload(&disk);
    let fault = every_power_loss(&disk).unwrap_err();
    assert!(fault.contains("is gone") || fault.contains("expected"), "{fault}");
}

#[test]
fn no_message_is_acknowledged_before_the_sync_that_covers_it() {
    let disk = TestDisk::new();
    workload(&disk);
    let log = disk.log();
    let mut acked = 0;
    for (at, op) in log.iter().enumerate() {
        let Op::Fact(Fact::Acked(position)) = op else { continue };
        let text = log.iter().find_map(|op| match op {
            Op::Fact(Fact::Sent(p, text)) if p == position => Some(text.clone()),
            _ => None,
        });
        let written =
            log[..at].iter().position(|op| matches!(op, Op::Write(_, _, bytes) if contains(bytes, *position, text.as_ref().unwrap())));
        let Some(Op::Write(file, ..)) = written.map(|w| &log[w]) else { panic!("{position} was acknowledged before it was written") };
        let synced = log[written.unwrap()..at].iter().any(|op| op == &Op::Sync(*file));
        assert!(synced, "{position} was acknowledged before its sync");
        acked += 1;
    }
    assert_eq!(acked, 15);
}

fn contains(bytes: &[u8], position: u64, text: &str) -> bool {
    let mut at = 0;
    while let Step::Whole(record, taken) = format::step(&bytes[at..]) {
        if matches!(record, Record::Message(m) if m.position == position && m.payload == text.as_bytes()) {
            return true;
        }
        at += taken;
    }
    false
}

#[test]
fn a_killed_process_loses_nothing_that_it_had_written() {
    let disk = TestDisk::new();
    workload(&disk);
    let core = open(&disk).unwrap();
    let read = texts(&messages(&core, 0).unwrap());
    assert_eq!(read.iter().map(|m| m.0).collect::<Vec<_>>(), (10..15).collect::<Vec<_>>());
    assert_eq!(core.stats().torn_bytes, 0);
}

/// A journal with messages of `sizes` in groups, closed in order; its segments and what is in them.
fn written(groups: &[Vec<usize>]) -> (TestDisk, Vec<(u64, String)>) {
    let disk = TestDisk::new();
    let mut run = Workload::begin(&disk);
    run.core.attach("one").unwrap();
    let mut position = 0;
    for group in groups {
        let texts: Vec<String> = group.iter().enumerate().map(|(i, size)| format!("{}:{}", position + i, "y".repeat(*size))).collect();
        run.send(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        position += group.len();
    }
    drop(run);
    let sent = disk.log().into_iter().filter_map(|op| if let Op::Fact(Fact::Sent(at, text)) = op { Some((at, text)) } else { None });
    (disk.clone(), sent.collect())
}

fn segments(disk: &TestDisk) -> Vec<PathBuf> {
    disk.paths().into_iter().filter(|p| p.extension().is_some_and(|e| e == "seg")).collect()
}

/// Copies the disk, without its log.
fn copy(disk: &TestDisk) -> TestDisk {
    TestDisk::after_power_loss(&disk.log(), Survives::Everything)
}

fn groups() -> impl Strategy<Value = Vec<Vec<usize>>> {
    prop::collection::vec(prop::collection::vec(0usize..200, 1..5), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn a_torn_tail_is_cut_at_the_last_whole_record(groups in groups(), cut in 0.0..1.0) {
        let (disk, sent) = written(&groups);
        let last = segments(&disk).pop().unwrap();
        let len = disk.bytes(&last).len();
        let keep = (len as f64 * cut) as usize;
        let torn = copy(&disk);
        torn.corrupt(&last, |bytes| bytes.truncate(keep));
        let core = open(&torn).unwrap();
        let stats = core.stats();
        let read = texts(&messages(&core, 0).unwrap());
        // All whole records that lie before the cut, and nothing else.
        let (mut at, mut whole, bytes) = (HEADER, 0, disk.bytes(&last));
        while let Step::Whole(record, taken) = format::step(&bytes[at..]) {
            if at + taken > keep { break; }
            at += taken;
            whole += usize::from(matches!(record, Record::Message(_)));
        }
        let first = last.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
        let expected: Vec<_> = sent.iter().filter(|(p, _)| *p < first + whole as u64).cloned().collect();
        prop_assert_eq!(read, expected);
        let whole_bytes = if keep < HEADER { 0 } else { at };
        prop_assert_eq!(stats.torn_bytes as usize, keep - whole_bytes.min(keep));
    }

    #[test]
    fn a_flipped_bit_is_found_or_harmless_and_never_changes_a_message(groups in groups(), at in 0.0..1.0, bit in 0u8..8, which in 0.0..1.0) {
        let (disk, sent) = written(&groups);
        let files: Vec<PathBuf> = disk.paths();
        let file = &files[(files.len() as f64 * which) as usize];
        let flipped = copy(&disk);
        flipped.corrupt(file, |bytes| {
            let at = (bytes.len() as f64 * at) as usize;
            bytes[at] ^= 1 << bit;
        });
        let read = open(&flipped).map_err(|e| e.to_string()).and_then(|core| messages(&core, 0).map_err(|e| e.to_string()));
        match read {
            // The journal was closed in order: its last mark lets only damage to that mark itself pass for a torn end.
            Ok(read) => prop_assert_eq!(texts(&read), sent.clone()),
            Err(error) => prop_assert!(error.contains(file.file_name().unwrap().to_str().unwrap()), "{} does not name {:?}", error, file),
        }
        if file.extension().is_some_and(|e| e == "seg") {
            let core = Core::open(flipped.clone(), JournalOptions { skip_damaged: true, ..options() }).unwrap();
            let kept = texts(&messages(&core, 0).unwrap());
            prop_assert!(kept.iter().all(|m| sent.contains(m)));
            prop_assert!(kept.len() + 1 >= sent.len(), "one bit costs one message at most, but {} of {} are left", kept.len(), sent.len());
            drop(core);
            prop_assert!(open(&flipped).is_ok(), "mended once, it opens without being told again");
        }
    }
}

#[test]
fn a_disk_that_is_full_or_fails_acknowledges_nothing_and_loses_nothing() {
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        let disk = TestDisk::new();
        let mut run = Workload::begin(&disk);
        run.core.attach("one").unwrap();
        run.send(&["a", "b"]);
        disk.fail(Some(kind));
        run.core.append_batch(&mut vec![(incoming("c"), 3), (incoming("d"), 4)]);
        std::thread::sleep(Duration::from_millis(100));
        let mut acks = Vec::new();
        run.core.shared.lock().take_acks(&mut acks);
        assert!(acks.is_empty() && run.core.stats().full && run.core.stats().write_errors > 1);
        disk.fail(None);
        settled(&run.core);
        run.core.shared.lock().take_acks(&mut acks);
        assert_eq!((acks, run.core.stats().full), (vec![3, 4], false));
        let log = disk.log();
        drop(run);
        for disk in
            [disk.clone(), TestDisk::after_power_loss(&log, Survives::Nothing), TestDisk::after_power_loss(&log, Survives::Everything)]
        {
            let read = texts(&messages(&open(&disk).unwrap(), 0).unwrap());
            assert_eq!(read.iter().map(|m| m.1.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"], "{kind:?}");
        }
    }
}

/// Fills a disk of 6,000 bytes to the last, with a reader that has released nothing yet.
fn on_a_full_disk(reserve_bytes: usize) -> (TestDisk, Core<TestDisk>) {
    let disk = TestDisk::new();
    disk.shrink(6_000);
    let core = Core::open(disk.clone(), JournalOptions { reserve_bytes, ..options() }).unwrap();
    core.attach("one").unwrap();
    let mut sent = 0;
    while core.stats().write_errors == 0 {
        core.append_batch(&mut vec![(incoming(&format!("{sent:020}")), 0)]);
        sent += 1;
        std::thread::sleep(Duration::from_micros(200));
    }
    (disk, core)
}

#[test]
fn on_a_full_disk_a_reader_can_still_note_and_release_and_so_makes_room() {
    let (disk, core) = on_a_full_disk(2_000);
    assert!(core.stats().full, "more would be taken");
    runtime().block_on(core.keep_note("one", Bytes::from(vec![7; 300]))).unwrap();
    assert!(!disk.paths().contains(&PathBuf::from("j/reserve")), "the note took its room");
    let synced = core.shared.lock().synced;
    core.release("one", synced).unwrap();
    settled(&core);
    let until = Instant::now() + Duration::from_secs(10);
    while core.stats().full {
        assert!(Instant::now() < until, "nothing is taken though there is room");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(disk.paths().contains(&PathBuf::from("j/reserve")), "the reserve is back");
    let read = texts(&messages(&core, 0).unwrap());
    assert!(read.iter().all(|(position, text)| text.parse() == Ok(*position)) && read.len() as u64 == core.shared.lock().held());
}

#[test]
fn without_a_reserve_a_full_disk_keeps_no_note() {
    let (_disk, core) = on_a_full_disk(0);
    assert!(runtime().block_on(core.keep_note("one", Bytes::from(vec![7; 300]))).is_err());
}

#[test]
fn the_size_limit_stops_the_intake_until_readers_release() {
    let disk = TestDisk::new();
    let core = Core::open(disk, JournalOptions { max_bytes: 2_000, ..options() }).unwrap();
    core.attach("one").unwrap();
    while !core.shared.lock().is_full() {
        core.append_batch(&mut vec![(incoming(&"z".repeat(100)), 0)]);
        settled(&core);
    }
    let held = core.shared.lock().held();
    assert!((8..20).contains(&held), "{held} messages of some 140 bytes in 2,000");
    core.release("one", held / 2).unwrap();
    assert!(!core.shared.lock().is_full());
}

#[test]
fn a_reader_known_from_an_earlier_run_holds_what_it_has_not_released_before_it_attaches() {
    let disk = TestDisk::new();
    workload(&disk);
    let core = open(&disk).unwrap();
    assert_eq!(core.shared.lock().released(), 10);
    assert_eq!(core.attach("one").unwrap(), 10);
    assert!(core.attach("../one").is_err() && core.attach("").is_err());
}

#[test]
fn a_stale_acknowledgement_is_dropped() {
    let disk = TestDisk::new();
    let core = open(&disk).unwrap();
    core.shared.lock().begin_epoch();
    core.append_batch(&mut vec![(incoming("a"), 1)]);
    settled(&core);
    core.shared.lock().begin_epoch();
    core.append_batch(&mut vec![(incoming("b"), 1)]);
    settled(&core);
    let mut acks = Vec::new();
    assert_eq!((core.shared.lock().take_acks(&mut acks), acks), (1, vec![1]));
}

#[test]
fn a_journal_on_a_real_disk_goes_on_where_it_was_and_is_opened_once() {
    let folder = tempfile::tempdir().unwrap();
    let options = |new_id| JournalOptions { segment_bytes: 64 << 10, max_bytes: 1 << 20, ..JournalOptions::new(folder.path(), new_id) };
    let first = Journal::open(options([1; 8])).unwrap();
    first.attach("archive").unwrap();
    for n in 0..3_000 {
        first.append(incoming(&format!("{n} {}", "w".repeat(100))));
        while n % 300 == 0 && first.core.shared.lock().pending_bytes() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(matches!(Journal::open(options([2; 8])), Err(JournalError::Locked { .. })));
    drop(first);
    let second = Journal::open(options([2; 8])).unwrap();
    assert_eq!(second.id(), [1; 8], "the name is kept");
    assert!(second.stats().segments > 3 && second.stats().held == 3_000);
    second.close();
    let mut read = Vec::new();
    let runtime = runtime();
    while read.len() < 3_000 {
        runtime.block_on(second.read("archive", read.len() as u64, 1_000, &mut read)).unwrap();
    }
    assert!(read.iter().zip(0..).all(|(m, n)| m.position == n && m.payload.starts_with(format!("{n} ").as_bytes())));
    second.release("archive", 3_000).unwrap();
    drop(second);
    let left = || std::fs::read_dir(folder.path()).unwrap().flatten().filter(|e| e.path().extension().is_some_and(|x| x == "seg")).count();
    assert_eq!(left(), 0, "released segments are deleted");
    std::fs::write(folder.path().join("id.json"), "{\"format\":2,\"writer\":\"0000000000000000\",\"sum\":\"0000000000000000\"}").unwrap();
    assert!(Journal::open(options([3; 8])).err().unwrap().to_string().contains("format 2"));
}

#[test]
fn a_segment_that_is_missing_is_named() {
    let (disk, _) = written(&[vec![150], vec![150], vec![150], vec![150], vec![150]]);
    let files = segments(&disk);
    assert!(files.len() >= 3);
    disk.remove(&files[1]).unwrap();
    let error = open(&disk).err().unwrap().to_string();
    assert!(error.contains(files[0].file_name().unwrap().to_str().unwrap()) && error.contains("--skip-damaged"), "{error}");
    let core = Core::open(disk.clone(), JournalOptions { skip_damaged: true, ..options() }).unwrap();
    assert!(!messages(&core, 0).unwrap().is_empty());
}

#[test]
fn arbitrary_bytes_are_read_without_a_panic_and_lengths_that_lie_cost_nothing() {
    let mut lie = Vec::new();
    lie.extend_from_slice(&(200u32 << 20).to_le_bytes());
    lie.extend_from_slice(&[1; 30]);
    assert_eq!(fuzzing::read_segment(&lie), 0);
    assert_eq!(fuzzing::read_segment(&[]), 0);
    let _ = Path::new("");
}
