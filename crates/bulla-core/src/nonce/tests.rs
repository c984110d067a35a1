//! Nonces are unique, epochs end, and copies of a process keep nothing.

use super::*;
use crate::limits::{EPOCH_BLOCKS_MAX, EPOCH_RECORDS_MAX};
use std::collections::HashSet;

fn keys(mode: NonceMode) -> DerivedKeys {
    DerivedKeys::new(XaesKey::new(&[9; 32]), Library::default(), Suite::Xaes256Gcm, mode)
}

fn nonce(keys: &DerivedKeys, blocks: u64) -> [u8; 24] {
    let join = |derived: &DerivedKey, tail: &[u8; 12]| [derived.prefix, *tail].concat();
    let nonce = keys.with_sealer(blocks, |derived, tail| Ok::<_, KeyError>(join(derived, tail)));
    nonce.unwrap().try_into().unwrap()
}

/// Lanes that have an epoch.
fn epochs(keys: &DerivedKeys) -> usize {
    let lanes = keys.lanes.iter().filter_map(|lane| lane.get());
    lanes.filter(|lane| lane.try_lock().unwrap().epoch.is_some()).count()
}

#[test]
fn the_first_seal_keeps_no_epoch_the_second_does() {
    let keys = keys(NonceMode::Epoch);
    nonce(&keys, 1);
    assert_eq!(epochs(&keys), 0);
    nonce(&keys, 1);
    assert_eq!(epochs(&keys), 1);
    nonce(&keys, 1);
    assert_eq!(epochs(&keys), 1);
}

/// Who finds a lane taken takes another, and seals alone where there is none.
#[test]
fn a_lane_that_is_taken_is_not_waited_for() {
    let keys = keys(NonceMode::Epoch);
    nonce(&keys, 1);
    let mut held = Vec::new();
    let mut prefixes = HashSet::new();
    for taken in 0..LANES {
        assert_eq!(prefixes.len(), taken);
        prefixes.insert(nonce(&keys, 1)[..12].to_vec());
        held.push(keys.free_lane().unwrap());
    }
    assert!(keys.free_lane().is_none());
    let alone = [nonce(&keys, 1), nonce(&keys, 1)];
    assert_ne!(alone[0][..12], alone[1][..12]);
    assert!(alone.iter().all(|nonce| !prefixes.contains(&nonce[..12])));
    let opened = keys.with_opener(&[1; 12], |_| Ok::<_, KeyError>(()));
    assert!(opened.is_ok());
    drop(held);
    let again = nonce(&keys, 1)[..12].to_vec();
    assert!(prefixes.contains(&again), "a lane that was given back goes on");
}

#[test]
fn nonces_are_unique_across_threads_and_epochs() {
    for mode in [NonceMode::Fresh, NonceMode::Epoch] {
        let keys = keys(mode);
        let per_thread = EPOCH_RECORDS_MAX as usize / 2 + 1000;
        let nonces: Vec<_> = std::thread::scope(|scope| {
            let work = || (0..per_thread).map(|_| nonce(&keys, 1)).collect::<Vec<_>>();
            let threads: Vec<_> = (0..6).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(nonces.iter().collect::<HashSet<_>>().len(), 6 * per_thread);
        let prefixes: HashSet<_> = nonces.iter().map(|nonce| &nonce[..12]).collect();
        assert!(prefixes.len() > 6, "no epoch was replaced");
        for prefix in prefixes {
            let sealed = nonces.iter().filter(|nonce| nonce[..12] == *prefix).count();
            assert!(sealed as u64 <= EPOCH_RECORDS_MAX);
        }
    }
}

#[test]
fn an_epoch_ends_at_its_block_limit() {
    let keys = keys(NonceMode::Epoch);
    let largest = (1 << 26) + 2;
    let prefixes: Vec<_> = (0..33).map(|_| nonce(&keys, largest)[..12].to_vec()).collect();
    // 15 of these fit into 2^30 blocks; the first seal is alone.
    assert_eq!(prefixes[1], prefixes[15]);
    assert_ne!(prefixes[15], prefixes[16]);
    assert_ne!(prefixes[0], prefixes[1]);
}

/// A generator that fails for ever must not wear the counts out: they would start
/// anew, and with them the nonces.
#[test]
fn an_epoch_that_is_full_stays_full_however_often_it_is_asked() {
    let keys = keys(NonceMode::Epoch);
    let epoch = || Epoch::new(Arc::new(keys.derive([0; 12]).unwrap()), 1, 1, [0; 12]);
    let mut by_records = epoch();
    let indices: Vec<_> = (0..1 << 17).filter_map(|_| by_records.reserve(1)).collect();
    assert!(indices.into_iter().eq(1..EPOCH_RECORDS_MAX));
    let (mut by_blocks, largest) = (epoch(), (1 << 26) + 2);
    assert_eq!((0..1 << 15).filter_map(|_| by_blocks.reserve(largest)).count(), 15);
    assert_eq!(by_blocks.reserve(1 << 26), None);
    assert!(by_blocks.reserve(1).is_some(), "a smaller one has room");
    assert_eq!(epoch().reserve(u64::MAX), None);
    // The first record has one block.
    assert_eq!(epoch().reserve(EPOCH_BLOCKS_MAX - 1), Some(1));
    assert_eq!(epoch().reserve(EPOCH_BLOCKS_MAX), None);
}

/// Threads that follow each other do not meet in a lane.
#[test]
fn threads_are_spread_over_the_lanes() {
    let lanes: Vec<_> =
        (0..10 * LANES).map(|_| std::thread::spawn(lane_of_thread).join().unwrap()).collect();
    assert!(lanes.iter().all(|lane| *lane < LANES), "{lanes:?}");
    // Other tests start threads too, so not even all have to be among these.
    assert!(lanes.into_iter().collect::<HashSet<_>>().len() >= LANES / 2);
}

/// A copy of a process keeps no key of its original, whether it seals or opens first.
#[test]
fn a_copy_lets_go_of_what_it_has_from_its_original() {
    let keys = keys(NonceMode::Epoch);
    let open = |byte: u8| {
        keys.with_opener(&[byte; 12], |_| Ok::<_, KeyError>(())).unwrap();
    };
    let kept = || {
        let in_lane = keys.lanes.iter().filter_map(|lane| lane.get()).map(|lane| {
            let lane = lane.try_lock().unwrap();
            usize::from(lane.opener.is_some()) + usize::from(lane.epoch.is_some())
        });
        let shared = keys.openers.iter().filter(|opener| opener.load().is_some());
        (shared.count(), in_lane.sum::<usize>())
    };
    let become_copy = || keys.generation.store(u64::MAX, Ordering::Relaxed);
    nonce(&keys, 1);
    nonce(&keys, 1);
    open(1);
    open(2);
    open(2);
    let (shared, in_lane) = kept();
    assert!(shared >= 2 && in_lane == 2, "the control: what opened and seals is kept");
    become_copy();
    open(1);
    assert_eq!(kept(), (1, 1));
    become_copy();
    keys.seal_alone(1, |_, _| Ok::<_, KeyError>(())).unwrap();
    assert_eq!(kept(), (0, 0));
    open(1);
    become_copy();
    nonce(&keys, 1);
    assert_eq!(kept(), (1, 1), "the epoch that has begun, and no more");
}

/// Each epoch that begins is at hand for opening, in any thread.
#[test]
fn epochs_are_replaced_when_they_end_and_kept_for_opening() {
    let keys = keys(NonceMode::Epoch);
    let is_kept = |nonce: &[u8; 24]| {
        let place = keys.openers[usize::from(nonce[0]) % OPENERS].load();
        place.as_ref().is_some_and(|kept| kept.prefix == nonce[..12])
    };
    nonce(&keys, 1);
    let largest = (1 << 26) + 2;
    let first = nonce(&keys, largest);
    assert!(is_kept(&first));
    let second = (0..15).map(|_| nonce(&keys, largest)).last().unwrap();
    assert_ne!(first[..12], second[..12]);
    assert!(is_kept(&second));
}

#[test]
fn the_counter_wraps_at_96_bits() {
    let keys = keys(NonceMode::Epoch);
    let epoch = Epoch::new(Arc::new(keys.derive([0; 12]).unwrap()), 1, 1, [0xff; 12]);
    assert_eq!(epoch.tail(0), [0xff; 12]);
    assert_eq!(epoch.tail(1), [0; 12]);
}
/// Processes keep tens of thousands of them.
#[test]
fn keys_are_small() {
    assert!(size_of::<crate::EnvelopeKey>() <= 256);
    assert!(size_of::<Lane>() <= 64);
}
