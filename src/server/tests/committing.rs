//! Replies that wait for the disk: order, one commit for many, failures, slow clients.

use super::*;
use crate::server::outbox::Broken;

/// A committer at work over a disk that the test operates.
struct Bench {
    disk: Arc<SlowDisk>,
    operator: Operator,
    reception: Reception,
    committing: JoinHandle<()>,
}

impl Bench {
    fn new() -> Bench {
        let (disk, operator) = SlowDisk::new(None);
        let reception = reception(Arc::clone(&disk) as _, None);
        let committer = Arc::clone(&reception.committer);
        Bench { disk, operator, reception, committing: thread::spawn(move || committer.run()) }
    }

    fn client(&self, wire: &Arc<ScriptedWire>) -> JoinHandle<Ending> {
        let (wire, reception) = (Arc::clone(wire), self.reception.clone());
        let disk = Some(Arc::clone(&self.disk));
        thread::spawn(move || serve(&wire, disk, &reception))
    }

    fn outbox(&self, wire: &Arc<ScriptedWire>) -> Arc<Outbox> {
        Arc::new(Outbox::new(Arc::clone(wire) as _, Arc::clone(&self.reception.committer)))
    }

    fn condition(&self, ticket: Ticket) -> Condition {
        Condition { ticket, failures: self.reception.committer.failures() }
    }

    fn commit(&self, outcome: Outcome) {
        self.operator.wait();
        self.operator.end(outcome);
    }

    /// Lets every commit end from now on; answers how the clients ended.
    fn close<const N: usize>(self, clients: [JoinHandle<Ending>; N]) -> [Ending; N] {
        drop(self.operator);
        let endings = clients.map(|client| client.join().unwrap());
        self.reception.committer.stop();
        self.committing.join().unwrap();
        endings
    }
}

#[test]
fn a_reply_leaves_after_its_commit_and_not_before() {
    let bench = Bench::new();
    let wire = ScriptedWire::with_bytes(b"write a\n");
    let client = bench.client(&wire);
    bench.operator.wait();
    assert_eq!(wire.written(), "");
    bench.operator.end(Outcome::Done);
    assert!(matches!(client.join().unwrap(), Ending::Closed));
    assert_eq!(wire.written(), "a\n");
    bench.close([]);
}

#[test]
fn a_reply_that_could_leave_waits_behind_one_that_could_not() {
    let bench = Bench::new();
    let events = ["say 1\n", "write 2\n", "say 3\n", "write 4\n", "say 5\n"];
    let wire = ScriptedWire::new(events.map(|text| Event::Bytes(text.into())));
    let client = bench.client(&wire);
    bench.operator.wait();
    assert_eq!(wire.written(), "1\n");
    bench.operator.end(Outcome::Done);
    assert!(matches!(bench.close([client]), [Ending::Closed]));
    assert_eq!(wire.written(), "1\n2\n3\n4\n5\n");
}

/// Also that of a client who is alone, while more of it is there.
#[test]
fn a_handler_reads_on_while_its_reply_waits() {
    for is_alone in [false, true] {
        let bench = Bench::new();
        let wire =
            ScriptedWire::new(["write 1\n", "write 2\n"].map(|text| Event::Bytes(text.into())));
        let admit = || bench.reception.clients.admit(1, Arc::clone(&wire) as _);
        let _admitted = is_alone.then(admit);
        let client = bench.client(&wire);
        bench.operator.wait();
        while bench.disk.last.load(Ordering::SeqCst) < 2 {
            thread::yield_now();
        }
        assert_eq!(wire.written(), "");
        assert!(matches!(bench.close([client]), [Ending::Closed]));
        assert_eq!(wire.written(), "1\n2\n");
    }
}

/// The thread of the committer does not run here.
#[test]
fn the_reply_of_a_client_that_is_alone_needs_no_other_thread() {
    for outcome in [Outcome::Done, Outcome::Failed, Outcome::Panic] {
        let (disk, operator) = SlowDisk::new(None);
        let reception = reception(Arc::clone(&disk) as _, None);
        let wire = ScriptedWire::with_bytes(b"say a\nwrite b\n");
        let _admitted = reception.clients.admit(1, Arc::clone(&wire) as _).unwrap();
        thread::scope(|scope| {
            let client = scope.spawn(|| serve(&wire, Some(disk), &reception));
            operator.wait();
            assert_eq!(wire.written(), "");
            operator.end(outcome);
            let ending = client.join().unwrap();
            if matches!(outcome, Outcome::Done) {
                assert!(matches!(ending, Ending::Closed), "{ending:?}");
                assert_eq!(wire.written(), "a\nb\n");
            } else {
                assert!(matches!(ending, Ending::Broken(Broken::NotDurable)), "{ending:?}");
                assert_eq!(wire.written(), "");
            }
        });
    }
}

#[test]
fn clients_that_come_during_a_commit_share_the_next_one() {
    let bench = Bench::new();
    let wires: Vec<_> = (0..50).map(|_| ScriptedWire::default()).map(Arc::new).collect();
    let send = |wire| {
        let condition = bench.condition(bench.disk.write());
        bench.outbox(wire).send(&mut b"done".to_vec(), condition).unwrap();
    };
    send(&wires[0]);
    bench.operator.wait();
    wires[1..].iter().for_each(send);
    bench.operator.end(Outcome::Done);
    bench.commit(Outcome::Done);
    wires.iter().for_each(|wire| wire.wait_for(|client| client.written.concat() == b"done"));
    assert!(bench.operator.begun.try_recv().is_err(), "a third commit for nobody");
    bench.close([]);
}

#[test]
fn a_failed_commit_disconnects_those_who_waited_for_it_and_nobody_else() {
    let bench = Bench::new();
    let liar = ScriptedWire::with_bytes(b"write a\nsay b\n");
    let client = bench.client(&liar);
    bench.operator.wait();
    let later = Arc::new(ScriptedWire::default());
    let condition = bench.condition(bench.disk.write());
    bench.outbox(&later).send(&mut b"later".to_vec(), condition).unwrap();
    bench.operator.end(Outcome::Failed);
    let ending = client.join().unwrap();
    assert!(matches!(ending, Ending::Broken(Broken::NotDurable)), "{ending:?}");
    assert_eq!(liar.written(), "");
    assert!(liar.is_cut());
    bench.commit(Outcome::Done);
    later.wait_for(|client| client.written.concat() == b"later");
    assert!(!later.is_cut());
    bench.close([]);
}

/// A handler may hold a reply in its hand while the commit for it fails and the next one succeeds:
/// the log is then "durable" beyond the reply's ticket, and the reply is a lie all the same.
#[test]
fn a_reply_handed_over_after_its_commit_has_failed_is_withheld() {
    let bench = Bench::new();
    let condition = bench.condition(bench.disk.write());
    for outcome in [Outcome::Failed, Outcome::Done] {
        let wire = Arc::new(ScriptedWire::default());
        let other = bench.condition(bench.disk.write());
        let outbox = bench.outbox(&wire);
        outbox.send(&mut b"other".to_vec(), other).unwrap();
        bench.commit(outcome);
        let drained = outbox.drain();
        assert_eq!(drained.is_ok(), matches!(outcome, Outcome::Done), "{drained:?}");
    }
    let wire = Arc::new(ScriptedWire::default());
    let sent = bench.outbox(&wire).send(&mut b"a lie".to_vec(), condition);
    assert_eq!(sent, Err(Broken::NotDurable));
    assert!(wire.is_cut() && wire.written().is_empty());
    // The same ticket from a command that was executed after the failure is a healthy queue's.
    let wire = Arc::new(ScriptedWire::default());
    let healthy = bench.condition(condition.ticket);
    bench.outbox(&wire).send(&mut b"true".to_vec(), healthy).unwrap();
    assert_eq!(wire.written(), "true");
    bench.close([]);
}

#[test]
fn a_panic_in_a_commit_is_a_failed_commit_and_the_next_one_runs() {
    let bench = Bench::new();
    let liar = ScriptedWire::with_bytes(b"write a\n");
    let client = bench.client(&liar);
    bench.commit(Outcome::Panic);
    assert!(matches!(client.join().unwrap(), Ending::Broken(Broken::NotDurable)));
    let honest = ScriptedWire::with_bytes(b"write b\n");
    let client = bench.client(&honest);
    bench.commit(Outcome::Done);
    assert!(matches!(client.join().unwrap(), Ending::Closed));
    assert_eq!(honest.written(), "b\n");
    bench.close([]);
}

#[test]
fn a_slow_client_holds_up_neither_the_committer_nor_another_client() {
    let bench = Bench::new();
    let slow = Arc::new(ScriptedWire::default());
    slow.set_room(Some(3));
    let outbox = bench.outbox(&slow);
    outbox.send(&mut b"abcdef".to_vec(), bench.condition(bench.disk.write())).unwrap();
    bench.commit(Outcome::Done);
    slow.wait_for(|client| client.written.concat() == b"abc");
    // More for the slow client, which its finisher finds or gives back to the committer.
    outbox.send(&mut b"ghi".to_vec(), bench.condition(bench.disk.write())).unwrap();
    let quick = ScriptedWire::with_bytes(b"write z\n");
    let client = bench.client(&quick);
    assert!(matches!(bench.close([client]), [Ending::Closed]));
    assert_eq!(quick.written(), "z\n");
    assert_eq!(slow.written(), "abc");
    slow.set_room(None);
    outbox.drain().unwrap();
    assert_eq!(slow.written(), "abcdefghi");
}

#[test]
fn a_handler_waits_while_its_outbox_is_full() {
    let bench = Bench::new();
    let events = (0..100).map(|_| Event::Bytes(b"write x\nbig 65536\n".to_vec()));
    let wire = ScriptedWire::new(events);
    let client = bench.client(&wire);
    bench.operator.wait();
    let remaining = || lock(&wire.client).events.len();
    while remaining() > 84 {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(50));
    assert!(remaining() > 80, "{} pieces were taken of a client that gets nothing", remaining());
    assert!(matches!(bench.close([client]), [Ending::Closed]));
    assert_eq!(wire.written().len(), 100 * (65536 + 2));
}

#[test]
fn a_handler_whose_client_is_cut_off_does_not_wait_for_the_disk() {
    let bench = Bench::new();
    let wire = Arc::new(ScriptedWire::default());
    let outbox = bench.outbox(&wire);
    outbox.send(&mut b"a".to_vec(), bench.condition(bench.disk.write())).unwrap();
    outbox.abandon();
    assert_eq!(outbox.drain(), Err(Broken::Abandoned));
    bench.close([]);
    assert_eq!(wire.written(), "");
}

#[test]
fn an_interval_commits_with_nobody_waiting() {
    let (disk, operator) = SlowDisk::new(Some(5));
    let committer = Arc::new(Committer::new(disk));
    let run = Arc::clone(&committer);
    let committing = thread::spawn(move || run.run());
    for _ in 0..3 {
        operator.wait();
        operator.end(Outcome::Done);
    }
    drop(operator);
    committer.stop();
    committing.join().unwrap();
}

#[test]
fn the_stop_ends_with_a_commit_of_what_nobody_waits_for() {
    let bench = Bench::new();
    bench.reception.committer.stop();
    bench.commit(Outcome::Done);
    bench.committing.join().unwrap();
}
