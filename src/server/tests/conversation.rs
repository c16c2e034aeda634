//! A connection's handler, driven with byte vectors: no socket, no other thread.

use super::*;
use crate::server::outbox::Broken;

fn answer(events: impl IntoIterator<Item = Event>, idle_ms: u64) -> (Arc<ScriptedWire>, Ending) {
    let wire = ScriptedWire::new(events);
    let reception = reception(Arc::new(NothingToSync), Some(Duration::from_millis(idle_ms)));
    let ending = serve(&wire, None, &reception);
    (wire, ending)
}

fn bytes(text: &str) -> Event {
    Event::Bytes(text.as_bytes().to_vec())
}

#[test]
fn what_one_read_yields_leaves_in_one_write() {
    let (wire, ending) = answer([bytes("say a\nsay b\nsay c\n"), bytes("say d\n")], 1000);
    assert_eq!(wire.written(), "a\nb\nc\nd\n");
    assert_eq!(wire.writes(), 2);
    assert!(matches!(ending, Ending::Closed), "{ending:?}");
}

#[test]
fn requests_in_single_bytes_get_the_same_replies() {
    let input = "say a\nsay bc\nbig 70000\nsay d\n";
    let whole = answer([bytes(input)], 1000).0.written();
    let single = input.chars().map(|character| bytes(&character.to_string()));
    assert_eq!(answer(single, 1000).0.written(), whole);
}

#[test]
fn the_rest_of_a_request_is_never_executed_after_the_end() {
    let (wire, ending) = answer([bytes("say a\nsay b")], 1000);
    assert_eq!(wire.written(), "a\n");
    assert!(matches!(ending, Ending::Closed), "{ending:?}");
}

#[test]
fn a_client_that_sends_nothing_is_idle_and_one_that_stops_midway_is_slow() {
    let (wire, ending) = answer([bytes("say a\n"), Event::Timeout, bytes("say b\n")], 1000);
    assert!(matches!(ending, Ending::Idle), "{ending:?}");
    assert_eq!(wire.written(), "a\n");
    assert!(wire.is_cut());
    let (_, ending) = answer([bytes("say"), Event::Timeout], 1000);
    assert!(matches!(ending, Ending::Slow), "{ending:?}");
}

#[test]
fn a_client_that_trickles_a_request_is_closed_although_every_read_has_bytes() {
    let pause = || Event::Pause(Duration::from_millis(20));
    let events = (0..1000).flat_map(|_| [pause(), bytes("x")]);
    let (wire, ending) = answer(events, 100);
    assert!(matches!(ending, Ending::Slow), "{ending:?}");
    assert!(lock(&wire.client).events.len() > 1000, "closed too late");
}

#[test]
fn an_upload_that_begins_late_has_its_time_from_its_first_byte() {
    let pause = |ms| Event::Pause(Duration::from_millis(ms));
    let late = [pause(800), bytes("sa"), pause(400), bytes("y a\n")];
    let (wire, ending) = answer(late, 1000);
    assert_eq!(wire.written(), "a\n");
    assert!(matches!(ending, Ending::Closed), "{ending:?}");
}

#[test]
fn a_client_that_falls_quiet_after_a_burst_is_not_idle_yet() {
    let burst = "say abcdefg\n".repeat(50_000);
    let (wire, ending) = answer([bytes(&burst), Event::Timeout, bytes("say last\n")], 60_000);
    assert!(wire.written().ends_with("g\nlast\n"));
    assert!(matches!(ending, Ending::Closed), "{ending:?}");
    let timeouts = &lock(&wire.client).read_timeouts;
    assert!(timeouts.contains(&Some(Duration::from_secs(1))), "{timeouts:?}");
    assert_eq!(timeouts.last(), Some(&Some(Duration::from_secs(60))));
}

#[test]
fn one_request_at_a_time_costs_one_timeout_for_the_whole_connection() {
    let (wire, _) = answer((0..100).map(|_| bytes("say a\n")), 60_000);
    assert_eq!(lock(&wire.client).read_timeouts.len(), 1);
}

#[test]
fn a_framing_error_is_answered_and_ends_the_connection() {
    let (wire, ending) = answer([bytes("say a\nframing\nsay b\n"), bytes("say c\n")], 1000);
    assert_eq!(wire.written(), "a\nerror\n");
    assert!(matches!(ending, Ending::Session(Close::Framing)), "{ending:?}");
    let client = lock(&wire.client);
    assert!(client.half_closed && client.cut, "the client first sees the error, then the end");
}

#[test]
fn a_session_that_makes_no_progress_is_ended() {
    let (_, ending) = answer([bytes("stuck\n")], 1000);
    assert!(matches!(ending, Ending::Stuck), "{ending:?}");
}

#[test]
fn a_client_that_is_gone_ends_its_handler() {
    let wire = ScriptedWire::with_bytes(b"say a\n");
    wire.shutdown(Shutdown::Both);
    let ending = serve(&wire, None, &reception(Arc::new(NothingToSync), None));
    let gone = Broken::Wire(ErrorKind::BrokenPipe);
    assert!(matches!(ending, Ending::Broken(broken) if broken == gone), "{ending:?}");
}

#[test]
fn a_stopping_server_executes_nothing_more() {
    let wire = ScriptedWire::with_bytes(b"say a\n");
    let reception = reception(Arc::new(NothingToSync), None);
    reception.clients.stop();
    let ending = serve(&wire, None, &reception);
    assert!(matches!(ending, Ending::Stopping), "{ending:?}");
    assert_eq!(wire.written(), "");
}
