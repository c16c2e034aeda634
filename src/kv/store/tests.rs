//! Tests of the key/value store: single rules, then random operations against a naive model.

use super::*;
use crate::random::Random;
use std::sync::atomic::Ordering::Relaxed;

const PLENTY: u64 = 1 << 20;

fn set<'v>(value: &'v [u8], expires_ms: u64) -> Change<'v> {
    Change::Set { value: Cow::Borrowed(value), flags: 0, expires_ms }
}

fn put(kv: &Kv, key: &[u8], value: &[u8]) -> Result<(), KvError> {
    kv.update(key, |_| (set(value, 0), ()))
}

fn value(kv: &Kv, key: &[u8]) -> Option<Vec<u8>> {
    kv.get(key, |entry| entry.value.to_vec())
}

#[test]
fn a_value_comes_back_with_its_flags_until_it_is_deleted() {
    let kv = Kv::new(PLENTY);
    let change = Change::Set { value: Cow::Borrowed(b"v"), flags: 7, expires_ms: 0 };
    kv.update(b"k", |old| (change, assert!(old.is_none()))).unwrap();
    assert_eq!(kv.get(b"k", |entry| (entry.value.to_vec(), entry.flags)), Some((b"v".into(), 7)));
    assert!(kv.delete(b"k"));
    assert!(!kv.delete(b"k"));
    assert_eq!(value(&kv, b"k"), None);
    assert_eq!((kv.len(), kv.bytes()), (0, 0));
}

#[test]
fn a_key_that_is_too_long_is_refused_and_found_nowhere() {
    let (kv, long) = (Kv::new(PLENTY), vec![7; KEY_MAX + 1]);
    put(&kv, &long[1..], b"v").unwrap();
    assert_eq!(put(&kv, &long, b"v"), Err(KvError::KeyTooLong));
    assert_eq!(Batch::default().add(&long, b"v"), Err(KvError::KeyTooLong));
    assert_eq!((value(&kv, &long), value(&kv, b"k"), kv.len()), (None, None, 1));
}

#[test]
fn a_set_beyond_the_limit_is_refused_and_changes_nothing() {
    let limit = cost(b"k", 10) + cost(b"m", 4);
    let kv = Kv::new(limit);
    put(&kv, b"k", b"0123456789").unwrap();
    put(&kv, b"m", b"0123").unwrap();
    assert_eq!(kv.bytes(), limit);
    assert_eq!(put(&kv, b"m", b"01234"), Err(KvError::OutOfMemory { limit }));
    assert_eq!(put(&kv, b"n", b""), Err(KvError::OutOfMemory { limit }));
    assert_eq!(value(&kv, b"m"), Some(b"0123".into()));
    put(&kv, b"k", b"").unwrap();
    put(&kv, b"m", b"01234").unwrap();
    assert!(kv.delete(b"k"));
    put(&kv, b"n", b"").unwrap();
    assert!(KvError::OutOfMemory { limit }.to_string().contains(&limit.to_string()));
}

#[test]
fn expired_entries_make_room_before_a_set_is_refused() {
    let mut map = Map::default();
    let limit = cost(b"k", 1);
    map.apply(b"k", set(b"v", 100), 1, limit).unwrap();
    assert!(map.apply(b"m", set(b"v", 0), 99, limit).is_err());
    map.apply(b"m", set(b"v", 0), 100, limit).unwrap();
    assert_eq!(map.slots.len(), 1);
}

#[test]
fn a_new_value_has_a_new_cas_and_a_touch_only_a_new_stamp() {
    let kv = Kv::new(PLENTY);
    let later_ms = kv.clock().now_ms() + 100_000;
    assert_eq!(kv.stamp(b"k"), 0);
    put(&kv, b"k", b"v").unwrap();
    let (cas, stamp) = (kv.get(b"k", |entry| entry.cas), kv.stamp(b"k"));
    kv.update(b"k", |_| (Change::Touch { expires_ms: later_ms }, ())).unwrap();
    assert_eq!(kv.get(b"k", |entry| (entry.cas, entry.expires_ms)), cas.map(|c| (c, later_ms)));
    assert_ne!(kv.stamp(b"k"), stamp);
    put(&kv, b"k", b"v").unwrap();
    assert!(kv.get(b"k", |entry| entry.cas) > cas);
    assert_eq!(kv.get(b"k", |entry| entry.expires_ms), Some(0));
}

#[test]
fn an_expired_entry_is_not_seen_not_revived_and_finally_swept() {
    let mut map = Map::default();
    map.apply(b"k", set(b"v", 100), 1, PLENTY).unwrap();
    assert!(map.entry(b"k", 99).is_some());
    assert!(map.entry(b"k", 100).is_none());
    assert_eq!(map.scan(0..10, 100, |_| panic!("it has expired")), None);
    assert_eq!(map.expire(99, 10), 0);
    assert_eq!(map.expire(100, 10), 1);
    map.apply(b"k", set(b"v", 100), 1, PLENTY).unwrap();
    map.apply(b"k", Change::Touch { expires_ms: 0 }, 100, PLENTY).unwrap();
    assert_eq!((map.slots.len(), map.order.len(), map.due.len(), map.bytes), (0, 0, 0, 0));
}

#[test]
fn a_time_that_has_passed_removes_the_entry() {
    let kv = Kv::new(PLENTY);
    put(&kv, b"k", b"v").unwrap();
    kv.update(b"k", |_| (set(b"w", 1), ())).unwrap();
    assert_eq!(kv.len(), 0);
    put(&kv, b"k", b"v").unwrap();
    kv.update(b"k", |_| (Change::Touch { expires_ms: 1 }, ())).unwrap();
    assert_eq!(kv.len(), 0);
}

#[test]
fn everything_goes_at_the_time_to_clear_and_nothing_after_it() {
    let kv = Kv::new(PLENTY);
    put(&kv, b"k", b"v").unwrap();
    let cas = kv.get(b"k", |entry| entry.cas);
    kv.clear_at(kv.clock().now_ms() + 100_000);
    assert_eq!(kv.len(), 1);
    kv.clear_at(1);
    assert_eq!((kv.len(), kv.bytes(), value(&kv, b"k")), (0, 0, None));
    put(&kv, b"k", b"v").unwrap();
    assert!(kv.get(b"k", |entry| entry.cas) > cas, "no cas comes twice");
    kv.clear_at(kv.clock().now_ms() + 100_000);
    kv.clear();
    assert_eq!(kv.lock().clear_at_ms, 0);
}

#[test]
fn entries_expire_by_the_clock_that_the_store_is_given() {
    let (clock, time_ms) = crate::clock::set_by_hand();
    let kv = Kv::new(PLENTY).with_clock(clock);
    let end_ms = kv.clock().now_ms() + 1;
    kv.update(b"k", |_| (set(b"v", end_ms), ())).unwrap();
    assert_eq!(value(&kv, b"k"), Some(b"v".into()));
    kv.sweep();
    assert_eq!((kv.len(), keys(&kv).len()), (1, 1));
    time_ms.fetch_add(1, Relaxed);
    assert_eq!((value(&kv, b"k"), keys(&kv).len()), (None, 0));
    assert!(!kv.delete(b"k"));
    kv.update(b"l", |_| (set(b"v", end_ms + 1), ())).unwrap();
    time_ms.fetch_add(1, Relaxed);
    assert_eq!(kv.len(), 1);
    kv.sweep();
    assert_eq!(kv.len(), 0);
}

#[test]
fn a_sweep_is_bounded() {
    let mut map = Map::default();
    for i in 0..10_u8 {
        map.apply(&[i], set(b"v", 100 + u64::from(i)), 1, PLENTY).unwrap();
    }
    assert_eq!(map.expire(1000, 4), 4);
    assert!(map.entry(&[4], 1).is_some(), "the oldest times go first");
    assert_eq!(map.expire(1000, 100), 6);
}

fn keys(kv: &Kv) -> Vec<Box<[u8]>> {
    let (mut next, mut keys) = (Some(0), Vec::new());
    while let Some(from) = next {
        next = kv.scan(from, kv.end(), |key| keys.push(key.into()));
    }
    keys
}

#[test]
fn a_scan_returns_every_key_that_stays() {
    let kv = Kv::new(PLENTY);
    for i in 0..100_u8 {
        put(&kv, &[i], b"v").unwrap();
    }
    let (end, mut next, mut seen) = (kv.end(), Some(0), Vec::new());
    while let Some(from) = next {
        next = kv.scan(from, end, |key| seen.push(key[0]));
        // Odd keys go, even ones get new values, and others come in between.
        let turn = (seen.len() % 50) as u8;
        kv.delete(&[turn * 2 + 1]);
        put(&kv, &[turn * 2], b"w").unwrap();
        if turn < 20 {
            put(&kv, &[100 + turn], b"x").unwrap();
        }
    }
    assert!((0..100).step_by(2).all(|key| seen.contains(&key)));
    assert!(seen.len() <= 100, "what came later is not shown");
    assert_eq!(kv.scan(u64::MAX, end, |_| panic!("there is none")), None);
}

#[test]
fn a_panic_in_a_closure_does_not_stop_the_next_client() {
    let kv = Arc::new(Kv::new(PLENTY));
    put(&kv, b"k", b"v").unwrap();
    let other = Arc::clone(&kv);
    let result = std::thread::spawn(move || other.get(b"k", |_| panic!("on purpose"))).join();
    assert!(result.is_err());
    assert_eq!(value(&kv, b"k"), Some(b"v".into()));
}

/// The naive model: key, value and time of expiry in a list.
#[derive(Default)]
struct Model(Vec<(Vec<u8>, Vec<u8>, u64)>);

impl Model {
    fn find(&self, key: &[u8], now_ms: u64) -> Option<usize> {
        self.0.iter().position(|(k, _, at)| k == key && (*at == 0 || *at > now_ms))
    }

    fn remove(&mut self, key: &[u8]) {
        self.0.retain(|(k, _, _)| k != key);
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|(k, v, _)| (k.len() + v.len()) as u64 + ENTRY_OVERHEAD).sum()
    }

    fn apply(&mut self, key: &[u8], change: &Change<'_>, now_ms: u64, limit: u64) -> bool {
        let found = self.find(key, now_ms);
        match change {
            Change::Keep => {}
            Change::Delete => self.remove(key),
            Change::Set { value, expires_ms, .. } => {
                let mut next = Model(self.0.clone());
                next.remove(key);
                if *expires_ms == 0 || *expires_ms > now_ms {
                    next.0.push((key.into(), value.to_vec(), *expires_ms));
                    if next.bytes() > limit {
                        next.0.retain(|(_, _, at)| *at == 0 || *at > now_ms);
                    }
                }
                if next.bytes() > limit {
                    return false;
                }
                *self = next;
            }
            Change::Touch { expires_ms } => {
                if let Some(index) = found {
                    self.0[index].2 = *expires_ms;
                }
            }
        }
        true
    }
}

/// What the comments above `Map` promise.
fn check_invariants(map: &Map) {
    assert_eq!(map.order.len(), map.slots.len());
    let slots: Vec<_> = map.order.values().map(|key| (key, map.slots.get(key).unwrap())).collect();
    assert!(map.order.keys().zip(&slots).all(|(number, (_, slot))| slot.number == *number));
    let timed = || slots.iter().filter(|(_, slot)| slot.expires_ms != 0);
    assert_eq!(map.due.len(), timed().count());
    assert_eq!(map.due_sum, timed().map(|(_, slot)| u128::from(slot.expires_ms)).sum::<u128>());
    assert!(timed().all(|(_, slot)| map.due.contains(&(slot.expires_ms, slot.number))));
    let sum: u64 = slots.iter().map(|(key, slot)| cost(key, slot.value.len())).sum();
    assert_eq!(map.bytes, sum);
}

#[test]
fn random_operations_agree_with_a_naive_model() {
    let mut generator = Random::seeded();
    let mut random = |below| generator.below(below);
    let limit = 5 * ENTRY_OVERHEAD + 100;
    let (mut map, mut model, mut refused) = (Map::default(), Model::default(), 0);
    let mut now_ms = 1;
    for _ in 0..20_000 {
        now_ms += random(3);
        let key = [b'a' + random(9) as u8];
        let expires_ms = if random(2) == 0 { 0 } else { now_ms + random(20) };
        let value = vec![b'x'; random(60) as usize];
        let kind = random(8);
        let change = || match kind {
            0..=4 => set(&value, expires_ms),
            5 => Change::Delete,
            6 => Change::Touch { expires_ms },
            _ => Change::Keep,
        };
        let fits = model.apply(&key, &change(), now_ms, limit);
        assert_eq!(map.apply(&key, change(), now_ms, limit).is_ok(), fits);
        refused += u32::from(!fits);
        if random(10) == 0 {
            map.expire(now_ms, 3);
        }
        check_invariants(&map);
        assert!(map.bytes <= limit);
        for key in b'a'..=b'i' {
            let expected = model.find(&[key], now_ms).map(|index| &model.0[index]);
            let found = map.entry(&[key], now_ms).map(|entry| (entry.value, entry.expires_ms));
            assert_eq!(found, expected.map(|(_, value, at)| (value.as_slice(), *at)));
        }
    }
    assert!(refused > 100, "the limit was hardly met: {refused}");
}
