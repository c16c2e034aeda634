//! Transcripts against the queue stores.

use super::{Client, play, queues, shared};
use crate::clock::set_by_hand;
use crate::queue::{
    Backing, Limits, MemoryBacking, Message, MessageStore, NamedStore, NewMessage, Place, Policy,
    Queue, QueueError, Queues, Ticket,
};
use crate::session::{Session, Shared, Store};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn set_pushes_and_get_pops_the_oldest_with_its_flags() {
    play(
        queues,
        &[
            ("get q\r\n", "END\r\n"),
            ("set q 1 0 1\r\na\r\n", "STORED\r\n"),
            ("set q 4294967295 0 1\r\na\r\n", "STORED\r\n"),
            ("set q 0 0 4 noreply\r\n\0\r\nb\r\n", ""),
            ("set q 0 0 0\r\n\r\n", "STORED\r\n"),
            ("scard q\r\n", "4\r\n"),
            ("get q\r\n", "VALUE q 1 1\r\na\r\nEND\r\n"),
            ("gets q\r\n", "VALUE q 4294967295 1 2\r\na\r\nEND\r\n"),
            ("get q q q\r\n", "VALUE q 0 4\r\n\0\r\nb\r\nVALUE q 0 0\r\n\r\nEND\r\n"),
            ("scard q\r\n", "0\r\n"),
        ],
    );
}

#[test]
fn get_of_several_queues_pops_one_from_each() {
    play(
        queues,
        &[
            ("set a 0 0 1\r\n1\r\n", "STORED\r\n"),
            ("set b 0 0 1\r\n2\r\n", "STORED\r\n"),
            ("set b 0 0 1\r\n3\r\n", "STORED\r\n"),
            ("get a none b\r\n", "VALUE a 0 1\r\n1\r\nVALUE b 0 1\r\n2\r\nEND\r\n"),
            ("get a b\r\n", "VALUE b 0 1\r\n3\r\nEND\r\n"),
        ],
    );
}

#[test]
fn a_bad_key_in_a_get_pops_nothing() {
    let bad = format!("get q {}\r\n", "k".repeat(251));
    play(
        queues,
        &[
            ("set q 0 0 1\r\na\r\n", "STORED\r\n"),
            (&bad, "CLIENT_ERROR bad command line format\r\n"),
            ("scard q\r\n", "1\r\n"),
        ],
    );
}

#[test]
fn add_pushes_what_is_not_in_the_queue() {
    play(
        queues,
        &[
            ("add q 0 0 1\r\na\r\n", "STORED\r\n"),
            ("add q 0 0 1\r\na\r\n", "NOT_STORED\r\n"),
            ("sismember q 0 0 1\r\na\r\n", "1\r\n"),
            ("sismember q 0 0 1\r\nb\r\n", "0\r\n"),
            ("sismember none 0 0 1\r\na\r\n", "0\r\n"),
            ("set q 0 0 1\r\na\r\n", "STORED\r\n"),
            ("scard q\r\n", "2\r\n"),
            ("get q q\r\n", "VALUE q 0 1\r\na\r\nVALUE q 0 1\r\na\r\nEND\r\n"),
            ("add q 0 0 1\r\na\r\n", "STORED\r\n"),
        ],
    );
}

#[test]
fn a_message_whose_time_has_passed_is_stored_and_not_there() {
    play(
        queues,
        &[
            ("set q 0 -1 1\r\na\r\n", "STORED\r\n"),
            ("add q 0 1000000000 1\r\na\r\n", "STORED\r\n"),
            ("scard q\r\n", "0\r\n"),
            ("set q 0 60 1\r\na\r\n", "STORED\r\n"),
            ("get q\r\n", "VALUE q 0 1\r\na\r\nEND\r\n"),
        ],
    );
}

#[test]
fn delete_drops_a_queue_and_flush_all_drops_them_all() {
    play(
        queues,
        &[
            ("delete q\r\n", "NOT_FOUND\r\n"),
            ("set q 0 0 1\r\na\r\n", "STORED\r\n"),
            ("delete q\r\n", "DELETED\r\n"),
            ("scard q\r\n", "0\r\n"),
            ("set a 0 0 1\r\na\r\n", "STORED\r\n"),
            ("set b 0 0 1\r\na\r\n", "STORED\r\n"),
            (
                "flush_all 10\r\n",
                "SERVER_ERROR flush_all with a delay needs the key/value store (--store kv)\r\n",
            ),
            ("flush_all\r\n", "OK\r\n"),
            ("get a b\r\n", "END\r\n"),
        ],
    );
}

/// Each turn counted it and took that back.
#[test]
fn a_command_of_several_turns_is_counted_once() {
    let limits = Limits { max_queues: 1000, max_queue_len: 9 };
    let backing = Box::new(MemoryBacking::new(1 << 30));
    let queues = Queues::open(backing, limits, Policy::Never).unwrap();
    let message = NewMessage { body: b"m", flags: 0, expires_ms: 0 };
    for number in 0..500 {
        let push = |queue: &mut Queue| queue.push(&message);
        queues.create(number.to_string().as_bytes(), &mut Ticket::default(), push).unwrap();
    }
    let shared = shared(Store::Queues(Arc::new(queues)));
    let (mut client, mut output, mut turns) = (Client::new(&shared), Vec::new(), 0);
    while output.is_empty() {
        client.session.advance(b"flush_all\r\n", &mut output);
        turns += 1;
        assert_eq!(shared.statistics.commands.load(Relaxed), 1, "in turn {turns}");
    }
    assert!(turns > 2, "{turns} turns");
}

#[test]
fn commands_that_queues_do_not_have_say_so_after_their_data() {
    let mut script = vec![("set q 0 0 1\r\na\r\n".to_owned(), "STORED\r\n".to_owned())];
    for sent in [
        "replace q 0 0 9\r\nflush_all\r\n",
        "append q 0 0 9\r\nflush_all\r\n",
        "prepend q 0 0 9\r\nflush_all\r\n",
        "cas q 0 0 9 1\r\nflush_all\r\n",
        "incr q 1\r\n",
        "decr q 1\r\n",
        "touch q 1\r\n",
        "gat 1 q q\r\n",
        "gats 1 q\r\n",
    ] {
        let (verb, _) = sent.split_once(' ').unwrap();
        let error = format!("SERVER_ERROR {verb} needs the key/value store (--store kv)\r\n");
        script.push((sent.to_owned(), error));
    }
    script.push(("append q 0 0 1 noreply\r\na\r\n".to_owned(), String::new()));
    script.push(("scard q\r\n".to_owned(), "1\r\n".to_owned()));
    let script: Vec<_> = script.iter().map(|(sent, answer)| (&**sent, &**answer)).collect();
    play(queues, &script);
}

fn small() -> Arc<Shared> {
    let limits = Limits { max_queues: 1, max_queue_len: 2 };
    let backing = Box::new(MemoryBacking::new(700));
    shared(Store::Queues(Arc::new(Queues::open(backing, limits, Policy::Never).unwrap())))
}

#[test]
fn a_full_queue_stores_nothing_and_other_limits_are_named() {
    play(
        small,
        &[
            ("set q 0 0 1\r\na\r\n", "STORED\r\n"),
            ("add q 0 0 1\r\nb\r\n", "STORED\r\n"),
            ("set q 0 0 1\r\nc\r\n", "NOT_STORED\r\n"),
            ("add q 0 0 1\r\nc\r\n", "NOT_STORED\r\n"),
            (
                "set r 0 0 1\r\na\r\n",
                "SERVER_ERROR too many queues, the limit is 1 (--max-queues)\r\n",
            ),
            ("set r 0 0 1 noreply\r\na\r\n", ""),
            ("get q\r\n", "VALUE q 0 1\r\na\r\nEND\r\n"),
        ],
    );
}

#[test]
fn what_one_client_pushes_another_pops() {
    let shared = queues();
    let (mut producer, mut consumer) = (Client::new(&shared), Client::new(&shared));
    for number in 0..100 {
        let sent = format!("set q {number} 0 {}\r\n{number}\r\n", number.to_string().len());
        assert_eq!(producer.ask(sent.as_bytes()), b"STORED\r\n");
    }
    for number in 0..100 {
        let length = number.to_string().len();
        let expected = format!("VALUE q {number} {length}\r\n{number}\r\nEND\r\n");
        assert_eq!(consumer.ask(b"get q\r\n"), expected.as_bytes());
    }
    assert_eq!(consumer.ask(b"get q\r\n"), b"END\r\n");
}

#[test]
fn a_get_of_very_many_keys_pops_in_order_and_stops_for_no_piece() {
    let mut client = Client::new(&queues());
    let mut expected = String::new();
    for number in 0..1000 {
        let body = format!("{number:>090}");
        let sent = format!("set q 0 0 90\r\n{body}\r\n");
        assert_eq!(client.ask(sent.as_bytes()), b"STORED\r\n");
        expected += &format!("VALUE q 0 90\r\n{body}\r\n");
    }
    let line = format!("get {}\r\n", "q ".repeat(1001));
    let answer = client.ask(line.as_bytes());
    assert_eq!(String::from_utf8(answer).unwrap(), expected + "END\r\n");
}

/// Shows messages and cannot remove them.
struct Stuck(Box<dyn MessageStore>);

impl MessageStore for Stuck {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn identity(&self) -> u64 {
        self.0.identity()
    }

    fn end(&self) -> u64 {
        self.0.end()
    }

    fn push(&mut self, message: &NewMessage<'_>, pushed_ms: u64) -> Result<Place, QueueError> {
        self.0.push(message, pushed_ms)
    }

    fn next(&mut self, from: u64) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        self.0.next(from)
    }

    fn promise_removal(&mut self, place: Place) -> Result<(), QueueError> {
        self.0.promise_removal(place)
    }

    fn withdraw_promise(&mut self, place: Place) {
        self.0.withdraw_promise(place);
    }

    fn remove(&mut self, _place: Place) -> Result<(), QueueError> {
        Err(QueueError::Storage("stuck\r\nEND".to_owned()))
    }

    fn at(&mut self, place: Place) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        self.0.at(place)
    }

    fn find(
        &mut self,
        body: &[u8],
        wanted: &dyn Fn(&Message<'_>) -> bool,
    ) -> Result<Option<(Place, Message<'_>)>, QueueError> {
        self.0.find(body, wanted)
    }

    fn count_equal(
        &mut self,
        body: &[u8],
        from: &mut Option<u64>,
        most: u64,
    ) -> Result<u64, QueueError> {
        self.0.count_equal(body, from, most)
    }

    fn discard(&mut self) -> Result<(), QueueError> {
        self.0.discard()
    }
}

/// Queues that start with `s` are stuck.
struct SomeStuck(MemoryBacking);

impl Backing for SomeStuck {
    fn existing(&self) -> Result<Vec<NamedStore>, QueueError> {
        self.0.existing()
    }

    fn create(&self, name: &[u8]) -> Result<Box<dyn MessageStore>, QueueError> {
        let store = self.0.create(name)?;
        Ok(if name.starts_with(b"s") { Box::new(Stuck(store)) } else { store })
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        self.0.statistics()
    }
}

fn some_stuck() -> Arc<Shared> {
    let limits = Limits { max_queues: 3, max_queue_len: 2 };
    let backing = Box::new(SomeStuck(MemoryBacking::new(1000)));
    shared(Store::Queues(Arc::new(Queues::open(backing, limits, Policy::Never).unwrap())))
}

#[test]
fn a_pop_that_fails_takes_its_value_back_and_keeps_what_was_popped_before() {
    play(
        some_stuck,
        &[
            ("set s 0 0 1\r\na\r\n", "STORED\r\n"),
            ("set q 0 0 1\r\nb\r\n", "STORED\r\n"),
            ("get q s q\r\n", "VALUE q 0 1\r\nb\r\nSERVER_ERROR stuck  END\r\n"),
            ("scard s\r\n", "1\r\n"),
        ],
    );
}

/// Each new queue waits for the disk.
#[test]
fn a_client_that_makes_queues_gives_others_their_turn() {
    let mut client = Client::new(&queues());
    let input: Vec<u8> =
        ["a", "b", "c"].map(|name| format!("set {name} 0 0 1\r\nm\r\n")).concat().into();
    let mut output = Vec::new();
    let advance = client.session.advance(&input, &mut output);
    assert!(advance.again && output == b"STORED\r\n".repeat(2), "{advance:?}");
    assert_eq!(client.ask(&input[advance.consumed..]), b"STORED\r\n");
}

#[test]
fn messages_expire_by_the_clock_that_the_queues_are_given() {
    let (clock, time_ms) = set_by_hand();
    let backing = Box::new(MemoryBacking::new(1 << 20));
    let limits = Limits { max_queues: 1, max_queue_len: 2 };
    let queues = Queues::open(backing, limits, Policy::Never).unwrap().with_clock(clock);
    let mut client = Client::new(&shared(Store::Queues(Arc::new(queues))));
    let push = b"add q 0 1 1\r\na\r\nadd q 0 2 1\r\nb\r\n";
    assert_eq!(client.ask(push), b"STORED\r\nSTORED\r\n");
    assert_eq!(client.ask(b"add q 0 0 1\r\nc\r\n"), b"NOT_STORED\r\n", "it is full");
    time_ms.fetch_add(999, Relaxed);
    assert_eq!(client.ask(b"sismember q 0 0 1\r\na\r\n"), b"1\r\n");
    time_ms.fetch_add(1, Relaxed);
    assert_eq!(client.ask(b"sismember q 0 0 1\r\na\r\n"), b"0\r\n");
    assert_eq!(client.ask(b"add q 0 0 1\r\nc\r\n"), b"STORED\r\n");
    time_ms.fetch_add(1000, Relaxed);
    assert_eq!(client.ask(b"get q\r\n"), b"VALUE q 0 1\r\nc\r\nEND\r\n");
}
