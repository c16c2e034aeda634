//! One connection, driven with byte vectors: no socket, no thread, no clock.

use super::*;
use crate::server::interest::Phase;
use crate::server::output::Broken;

fn served(reads: &[&str]) -> Served {
    let mut served = Served::new(ScriptedWire::arriving(reads));
    served.serve();
    served
}

fn phase(served: &Served) -> Phase {
    served.connection.state(&served.bench).phase
}

#[test]
fn what_one_read_yields_leaves_in_one_write() {
    let served = served(&["say a\nsay b\nsay c\n", "say d\n", ""]);
    assert_eq!(served.wire.text(), "a\nb\nc\nd\n");
    assert_eq!(served.wire.sent.len(), 2);
    assert!(matches!(served.over(), Some(Ending::Closed)), "{:?}", served.over());
}

#[test]
fn requests_in_single_bytes_get_the_same_replies() {
    let input = "say a\nsay bc\nbig 70000\nsay d\n";
    let bytes: Vec<String> = input.chars().map(String::from).collect();
    let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
    assert_eq!(served(&bytes).wire.text(), served(&[input]).wire.text());
}

#[test]
fn a_request_larger_than_any_buffer_is_executed_once_it_is_whole() {
    let long = "x".repeat(3_000_000);
    let mut served = served(&["say a\nsay ", &long, "\nsay b\nsa"]);
    assert_eq!(served.wire.text(), format!("a\n{long}\nb\n"));
    assert!(served.connection.memory() < 100, "what is left is small");
    served.says("y c\n");
    assert!(served.wire.text().ends_with("b\nc\n"));
    assert_eq!(served.connection.memory(), 0, "a client without bytes has no buffers");
}

#[test]
fn the_rest_of_a_request_is_never_executed_after_the_end() {
    let served = served(&["say a\nsay b", ""]);
    assert_eq!(served.wire.text(), "a\n");
    assert!(matches!(served.over(), Some(Ending::Closed)), "{:?}", served.over());
}

#[test]
fn a_half_closed_client_gets_all_replies() {
    let served = served(&["say a\nslow 3\nwrite b\nsay c\n", ""]);
    assert_eq!(served.wire.text(), "a\nslow\nb\nc\n");
    assert!(matches!(served.over(), Some(Ending::Closed)), "{:?}", served.over());
}

#[test]
fn a_framing_error_is_answered_and_what_follows_is_thrown_away() {
    let mut served = served(&["say a\nframing\nsay b\n"]);
    assert_eq!(served.wire.text(), "a\nerror\n");
    assert!(served.wire.is_half_closed && served.over().is_none());
    served.says("say c\n");
    assert_eq!(phase(&served), Phase::Lingering);
    served.says("");
    assert!(matches!(served.over(), Some(Ending::Session(Close::Framing))));
    assert_eq!(served.wire.text(), "a\nerror\n");
}

#[test]
fn lingering_ends_by_itself() {
    let mut served = served(&["quit\n"]);
    let deadline = served.connection.deadline().unwrap();
    assert_eq!(deadline, served.start + Duration::from_secs(1));
    served.bench.now = deadline - Duration::from_millis(1);
    served.connection.look_at_deadline(&mut served.bench);
    assert!(served.over().is_none());
    served.bench.now = deadline;
    served.connection.look_at_deadline(&mut served.bench);
    assert!(matches!(served.over(), Some(Ending::Session(Close::Quit))));
}

/// After QUIT, and half-closed with requests behind those whose replies it does not take.
#[test]
fn a_client_that_leaves_and_takes_no_reply_for_a_minute_is_ended() {
    let pipeline = "big 60000\n".repeat(10);
    for (last, expected) in [("quit\n", Phase::Draining), ("", Phase::Open)] {
        let mut wire = ScriptedWire::arriving(&[&pipeline, last]);
        wire.room = Some(if expected == Phase::Draining { 500_000 } else { 0 });
        let mut served = Served::new(wire);
        served.serve();
        assert_eq!(phase(&served), expected);
        assert_eq!(served.connection.deadline(), Some(served.start + Duration::from_secs(60)));
        // A client that takes something has as long again.
        served.bench.now += Duration::from_secs(59);
        served.wire.room = Some(1);
        served.turn();
        let deadline = served.connection.deadline().unwrap();
        assert_eq!(deadline, served.start + Duration::from_secs(119));
        served.bench.now = deadline - Duration::from_nanos(1);
        served.connection.look_at_deadline(&mut served.bench);
        assert!(served.over().is_none());
        served.bench.now = deadline;
        served.connection.look_at_deadline(&mut served.bench);
        let timed_out = Broken::Wire(ErrorKind::TimedOut);
        assert!(matches!(served.over(), Some(Ending::Broken(broken)) if *broken == timed_out));
    }
}

#[test]
fn a_client_that_may_send_more_has_no_deadline_for_its_replies() {
    let mut served = served(&[]);
    served.wire.room = Some(0);
    served.says("say a\n");
    assert_eq!(served.connection.deadline(), None);
}

#[test]
fn a_session_that_makes_no_progress_is_ended() {
    let served = served(&["stuck\n", ""]);
    assert!(matches!(served.over(), Some(Ending::Stuck)), "{:?}", served.over());
}

#[test]
fn a_client_that_is_gone_is_ended() {
    let mut served = Served::new(ScriptedWire::arriving(&["say a\n"]));
    served.connection.receive(&mut served.wire, &mut served.bench);
    served.wire.is_cut = true;
    served.connection.flush(&mut served.wire, &mut served.bench, &*served.disk);
    let gone = Broken::Wire(ErrorKind::BrokenPipe);
    assert!(matches!(served.over(), Some(Ending::Broken(broken)) if *broken == gone));
}

#[test]
fn a_reply_waits_for_its_commit_and_those_behind_it_wait_too() {
    let mut served = Served::new(ScriptedWire::arriving(&["say a\nwrite b\nsay c\n"]));
    served.connection.receive(&mut served.wire, &mut served.bench);
    served.connection.go_on(&mut served.bench);
    let Served { connection, wire, bench, disk, .. } = &mut served;
    assert!(connection.flush(wire, bench, &**disk));
    assert_eq!(wire.text(), "", "the first reply shares a piece with the second");
    disk.commit();
    assert!(!connection.flush(wire, bench, &**disk));
    assert_eq!(wire.text(), "a\nb\nc\n");
}

#[test]
fn a_reply_whose_sync_failed_never_leaves() {
    let mut served = Served::new(ScriptedWire::arriving(&["write a\n", "write b\nsay c\n"]));
    lock(&served.disk.failing).push(2);
    served.serve();
    assert_eq!(served.wire.text(), "a\n");
    assert!(matches!(served.over(), Some(Ending::Broken(Broken::NotDurable))));
}

#[test]
fn a_client_that_writes_everything_before_it_reads_gets_every_reply() {
    let mut wire = ScriptedWire { room: Some(0), ..ScriptedWire::default() };
    let count = 1000;
    for number in 0..count {
        wire.arriving.push_back(format!("say {number} {}\n", "y".repeat(1000)).into());
    }
    let mut served = Served::new(wire);
    served.serve();
    assert!(served.wire.arriving.len() < count / 2, "much of it has been read");
    assert!(served.connection.memory() < 3 * MAX_OUTPUT, "and is bounded");
    assert!(!served.connection.is_runnable(&served.bench));
    while !served.wire.arriving.is_empty() || served.connection.memory() > 0 {
        served.wire.room = Some(10_000);
        served.serve();
    }
    let text = served.wire.text();
    let number = |line: &str| line.split_once(' ').unwrap().0.parse::<usize>().unwrap();
    assert!(text.lines().map(number).eq(0..count), "in order");
}

/// It may hold a queue that others wait for.
#[test]
fn a_request_that_has_begun_is_finished_although_nobody_reads() {
    let mut wire = ScriptedWire { room: Some(0), ..ScriptedWire::default() };
    // The last of these fills the output in the turn in which the slow request begins.
    wire.arriving.push_back(["big 60000\n".repeat(5).as_str(), "slow 3\n"].concat().into());
    let mut served = Served::new(wire);
    served.serve();
    assert!(served.connection.state(&served.bench).is_blocked);
    served.wire.room = None;
    served.connection.flush(&mut served.wire, &mut served.bench, &*served.disk);
    assert!(served.wire.text().ends_with("xslow\n"));
}

/// Half of it stayed, whichever way the client went.
#[test]
fn a_change_is_finished_although_its_client_goes_and_nothing_behind_it_begins() {
    let leave: [fn(&mut Connection); 4] = [
        Connection::kill,
        Connection::shed,
        |connection| connection.abort(Ending::Closed),
        |connection| connection.abort(Ending::Broken(Broken::NotDurable)),
    ];
    for (way, leave) in leave.iter().enumerate() {
        // In the second one the client has sent more behind a large request.
        for more in ["", &"say x\n".repeat(30_000)] {
            let mut served = Served::new(ScriptedWire::arriving(&["change 9\nwrite a\n", more]));
            (0..3).for_each(|_| served.turn());
            leave(&mut served.connection);
            assert!(served.over().is_none(), "way {way}");
            assert!(served.connection.memory() < 100, "way {way}: only the request is kept");
            served.turn();
            assert!(served.wire.is_cut, "way {way}: the socket of a client that has gone");
            // The poller reports that again and again.
            served.connection.abort(Ending::Closed);
            served.serve();
            assert_eq!(served.disk.changes.load(Ordering::SeqCst), 10, "way {way}");
            assert_eq!(served.disk.last.load(Ordering::SeqCst), 0, "way {way}: what is behind it");
            assert!(served.over().is_some() && served.wire.sent.is_empty(), "way {way}");
        }
    }
    let cut: [fn(&mut Connection); 2] =
        [|connection| connection.abort(Ending::Panicked), Connection::cut];
    for cut in cut {
        let mut served = Served::new(ScriptedWire::arriving(&["change 9\n"]));
        served.turn();
        cut(&mut served.connection);
        assert!(served.over().is_some(), "nobody calls its session again");
    }
}

#[test]
fn a_client_that_never_reads_takes_bounded_memory() {
    let mut wire = ScriptedWire { room: Some(0), ..ScriptedWire::default() };
    wire.arriving.extend((0..1000).map(|_| b"big 10000\nsay x\n".repeat(100)));
    let mut served = Served::new(wire);
    served.serve();
    assert!(served.connection.memory() < 3 * MAX_OUTPUT, "{}", served.connection.memory());
    assert!(served.wire.arriving.len() > 500, "the rest is not read");
    let state = served.connection.state(&served.bench);
    assert!(state.is_input_full && state.is_blocked && !state.is_runnable, "{state:?}");
}

#[test]
fn small_replies_that_are_not_read_cost_their_bytes() {
    let mut wire = ScriptedWire { room: Some(0), ..ScriptedWire::default() };
    wire.arriving.extend((0..1000).map(|_| b"say 12345678\n".to_vec()));
    let mut served = Served::new(wire);
    served.serve();
    assert!(served.connection.memory() < 32 * 1024, "{}", served.connection.memory());
}

#[test]
fn a_waiting_session_is_called_when_it_is_woken_and_not_before() {
    let mut served = served(&["say a\nwait\nsay b\n"]);
    served.says("say c\n");
    assert_eq!(served.wire.text(), "a\n", "what came before the wait has left");
    assert_eq!(served.connection.deadline(), None);
    served.connection.wake(&mut served.bench);
    served.serve();
    assert_eq!(served.wire.text(), "a\nwoken\nb\nc\n");
    served.connection.wake(&mut served.bench);
    assert!(served.over().is_none(), "nobody waits");
}

#[test]
fn a_waiting_session_is_called_when_its_time_is_up() {
    let mut served = served(&["wait 5\n"]);
    let deadline = served.start + Duration::from_secs(5);
    assert_eq!(served.connection.deadline(), Some(deadline));
    served.bench.now = deadline - Duration::from_nanos(1);
    served.connection.look_at_deadline(&mut served.bench);
    assert_eq!(served.serve().wire.text(), "");
    served.bench.now = deadline;
    served.connection.look_at_deadline(&mut served.bench);
    assert_eq!(served.serve().wire.text(), "woken\n");
}

#[test]
fn a_client_that_hangs_up_while_it_waits_is_ended() {
    let served = served(&["wait\n", "say a\n", ""]);
    assert!(matches!(served.over(), Some(Ending::Closed)), "{:?}", served.over());
    assert_eq!(served.wire.text(), "");
}

/// Messages went to it for as long as it lingered or did not take its replies.
#[test]
fn a_session_goes_with_the_last_request_of_its_client() {
    let is_there = |served: &Served| Arc::strong_count(&served.disk) == 2;
    for leave in [Connection::kill, Connection::stop, Connection::shed] {
        let mut served = served(&["wait\n"]);
        assert!(is_there(&served));
        leave(&mut served.connection);
        served.serve();
        assert_eq!((phase(&served), is_there(&served)), (Phase::Lingering, false));
    }
    let mut deaf = served(&[]);
    deaf.wire.room = Some(0);
    deaf.says("say a\nwait\n").says("");
    assert_eq!((phase(&deaf), is_there(&deaf)), (Phase::Draining, false));
}

#[test]
fn who_does_nothing_for_too_long_is_overdue() {
    let timeout = Duration::from_secs(10);
    let after = |served: &Served, seconds| {
        let now = served.start + Duration::from_secs(seconds);
        served.connection.overdue(now, timeout).map(|ending| format!("{ending:?}"))
    };
    let idle = served(&["say a\n"]);
    assert_eq!((after(&idle, 10), after(&idle, 11)), (None, Some("Idle".into())));
    let slow = served(&["say a"]);
    assert_eq!((after(&slow, 10), after(&slow, 11)), (None, Some("Slow".into())));
    let mut deaf = served(&["say a\n"]);
    deaf.wire.room = Some(0);
    deaf.says("say b\n");
    assert_eq!(after(&deaf, 11), Some("Broken(Wire(TimedOut))".into()));
    deaf.bench.now += Duration::from_secs(8);
    deaf.wire.room = Some(1);
    deaf.turn();
    assert_eq!(after(&deaf, 11), None, "it has taken something");
    assert_eq!(after(&served(&["wait\n"]), 11), None, "who waits is not idle");
}

#[test]
fn a_request_that_trickles_in_is_as_old_as_its_first_byte() {
    let mut served = served(&["say "]);
    for second in 1..=11 {
        served.bench.now = served.start + Duration::from_secs(second);
        served.says("x");
    }
    let overdue = served.connection.overdue(served.bench.now, Duration::from_secs(10));
    assert!(matches!(overdue, Some(Ending::Slow)), "{overdue:?}");
    served.says("\nsa");
    assert!(served.connection.overdue(served.bench.now, Duration::from_secs(10)).is_none());
}

#[test]
fn the_stop_finishes_a_request_and_begins_no_other() {
    let mut served = Served::new(ScriptedWire::arriving(&["slow 2\nsay a\n"]));
    served.turn();
    served.connection.stop();
    served.serve();
    assert!(served.wire.text().starts_with("slow\n"), "{}", served.wire.text());
    assert_eq!(phase(&served), Phase::Lingering);
    let mut idle = Served::new(ScriptedWire::arriving(&["say a\n"]));
    idle.connection.stop();
    idle.serve();
    assert_eq!(idle.wire.text(), "");
}

#[test]
fn a_killed_client_gets_the_replies_that_it_takes_at_once() {
    let mut reading = served(&["write a\n"]);
    reading.connection.kill();
    assert_eq!(reading.serve().wire.text(), "a\n");
    assert_eq!(phase(&reading), Phase::Lingering);
    let mut deaf = served(&[]);
    deaf.wire.room = Some(0);
    deaf.says("say b\n");
    deaf.connection.kill();
    assert!(matches!(deaf.over(), Some(Ending::Killed)), "{:?}", deaf.over());
}

#[test]
fn a_client_that_takes_too_much_is_told_if_it_reads() {
    let mut reading = served(&["say a"]);
    reading.connection.shed();
    assert_eq!(reading.serve().wire.text(), "too much\n");
    assert_eq!(phase(&reading), Phase::Lingering);
    let mut deaf = served(&[]);
    deaf.wire.room = Some(0);
    deaf.says("big 100000\n");
    deaf.connection.shed();
    assert!(matches!(deaf.over(), Some(Ending::TooLarge)), "{:?}", deaf.over());
    assert_eq!(deaf.connection.memory(), 0);
}
