//! Commands of one pipeline on one queue run in a row, and answer what they answer one by one.

use super::{Daemon, pipeline};
use crate::random::Random;

#[test]
fn a_pipeline_answers_what_its_commands_answer_one_by_one() {
    #[rustfmt::skip]
    const LINES: [&str; 24] = [
        "SADD q a", "SADD q a", "SADD q b c d", "SADD q e", "SADD r a", "SADD r b c", "SPOP q",
        "SPOP q 2", "SPOP r", "SREM q a b", "SISMEMBER q a", "SMISMEMBER q a b z", "SCARD q",
        "SCARD r", "SMEMBERS q", "SRANDMEMBER q", "SSCAN q 0", "SMOVE q r a", "SMOVE r q b",
        "DEL q", "SADD q", "nosuch q", "MULTI", "EXEC",
    ];
    let mut random = Random::seeded();
    for _ in 0..50 {
        let lines: Vec<&str> =
            (0..200).map(|_| LINES[random.below(LINES.len() as u64) as usize]).collect();
        let mut single = Daemon::with_queues(1 << 30, 5).client();
        let expected: String = lines.iter().map(|line| single.ask(line)).collect();
        let mut together = Daemon::with_queues(1 << 30, 5).client();
        assert_eq!(pipeline(&mut together, &lines), expected, "{lines:?}");
    }
}

#[test]
fn pipelines_that_move_in_opposite_directions_never_wait_for_each_other() {
    let daemon = Daemon::with_queues(1 << 30, u64::MAX);
    std::thread::scope(|scope| {
        for (from, to) in [("q", "r"), ("r", "q")] {
            let mut client = daemon.client();
            scope.spawn(move || {
                let (push, back) = (format!("SADD {from} {from}"), format!("SREM {from} {from}"));
                let (go, come) =
                    (format!("SMOVE {from} {to} {from}"), format!("SMOVE {to} {from} {from}"));
                let lines = [push.as_str(), &go, &come, &back].repeat(50);
                for _ in 0..50 {
                    assert_eq!(pipeline(&mut client, &lines), ":1|".repeat(lines.len()));
                }
            });
        }
    });
}
