//! Rules 11 and 12: pops are in the cursor, and an answered one stays.

use super::bench::*;

fn ten() -> Bench {
    let mut bench = Bench::new(16 * 1024);
    (0..10).for_each(|number| bench.push(format!("{number}")));
    bench.sync();
    bench
}

/// Indices of the sectors that differ.
fn changed(before: &[u8], after: &[u8]) -> Vec<usize> {
    let sectors = before.chunks(SECTOR).zip(after.chunks(SECTOR)).enumerate();
    sectors.filter(|(_, (one, other))| one != other).map(|(index, _)| index).collect()
}

#[test]
fn rule_11_popping_writes_the_cursor_and_nothing_else() {
    let mut bench = ten();
    let mut before = bench.files();
    let mut last = 0;
    for _ in 0..9 {
        bench.pop().unwrap();
        let after = bench.files();
        let (before_bytes, after_bytes) = (before.values().next(), after.values().next());
        let sectors = changed(before_bytes.unwrap(), after_bytes.unwrap());
        assert_eq!((after.len(), sectors.len()), (1, 1), "one sector of one file");
        assert!((1..=4).contains(&sectors[0]), "not a cursor slot: {sectors:?}");
        assert_ne!(sectors[0], last, "the slot that was written last is not written next");
        last = sectors[0];
        before = after;
    }
}

#[test]
fn rule_11_a_removal_elsewhere_than_at_the_head_appends_one_small_record() {
    let mut bench = ten();
    let end = |bench: &Bench| bench.log.segments().last().unwrap().records_end;
    let before = end(&bench);
    assert!(bench.remove("5"));
    assert_eq!(end(&bench) - before, REMOVAL_SIZE);
    assert!(bench.remove("0"));
    assert_eq!(end(&bench) - before, REMOVAL_SIZE, "the head needs no record");
}

#[test]
fn rule_11_where_cursor_and_log_disagree_the_log_is_believed() {
    let mut bench = ten();
    let stale = bench.files();
    (10..20).for_each(|number| bench.push(format!("{number}")));
    bench.sync();
    // The cursor's sectors as they were: it knows nothing of the second ten.
    let mut files = bench.files();
    for (name, bytes) in &mut files {
        bytes[SECTOR..RECORDS].copy_from_slice(&stale[name][SECTOR..RECORDS]);
    }
    let mut found = Bench::of(&files, 16 * 1024);
    assert_eq!(found.log.len(), 20);
    found.push("new");
    let places = found.places();
    assert_eq!(places[20].0, places[19].0 + 1, "a number was given twice");
}

/// Everything that a power cut may leave of two pops after the last answer: each subset of what
/// they wrote.
#[test]
fn rule_12_an_answered_pop_does_not_come_back_after_a_power_cut() {
    for answered in 1..6_usize {
        let mut bench = ten();
        (0..answered).for_each(|_| drop(bench.pop()));
        bench.sync();
        let durable = bench.files();
        bench.pop();
        bench.pop();
        let current = bench.files();
        let (name, before) = durable.first_key_value().unwrap();
        let sectors = changed(before, &current[name]);
        assert_eq!(sectors.len(), 2);
        for subset in 0..1_u32 << sectors.len() {
            let mut image = durable.clone();
            let bytes = image.get_mut(name).unwrap();
            for (bit, sector) in sectors.iter().enumerate() {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                if subset & 1 << bit != 0 {
                    bytes[range.clone()].copy_from_slice(&current[name][range]);
                }
            }
            let mut found = Bench::of(&image, 16 * 1024);
            let first = found.bodies()[0][0] - b'0';
            let first = usize::from(first);
            assert!((answered..=answered + 2).contains(&first), "{answered}, {subset:b}: {first}");
        }
    }
}
