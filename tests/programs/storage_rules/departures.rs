//! Rule 20 for clients that go in the middle of a command: all of it is done, or nothing.

use crate::common::{Client, Daemon, request};

/// Enough for a dozen slices.
const MANY: usize = 24_000;

fn bodies() -> Vec<String> {
    (0..MANY).map(|number| format!("m{number}")).collect()
}

fn naming_all(command: &str) -> Vec<u8> {
    let bodies = bodies();
    let words = [command, "q"].into_iter().chain(bodies.iter().map(String::as_str));
    request(&words.map(str::as_bytes).collect::<Vec<_>>())
}

fn number(client: &mut Client, line: &str) -> usize {
    client.send(line);
    client.read_line()[1..].parse().unwrap()
}

/// Sends a request, and returns in the middle of it: the only worker has served the observer in
/// between `slices` times since it began.
fn begin(daemon: &Daemon, observer: &mut Client, command: &[u8], slices: usize) -> (Client, usize) {
    let mut client = daemon.redis();
    let id = number(&mut client, "CLIENT ID\r\n");
    client.send(command);
    let name = command.split(|byte| *byte == b'\n').nth(2).unwrap();
    let name = format!("cmd={}", name.escape_ascii()).to_lowercase().replace("\\r", "");
    loop {
        observer.send(format!("CLIENT LIST ID {id}\r\n"));
        let length: usize = observer.read_line()[1..].parse().unwrap();
        if String::from_utf8(observer.read(length + 2)).unwrap().contains(&name) {
            break;
        }
    }
    (0..slices).for_each(|_| observer.ask("PING\r\n", "+PONG\r\n"));
    (client, id)
}

/// A client that was gone left the half that had been done by then.
#[test]
fn rule_20_a_command_whose_client_goes_in_the_middle_is_done_as_a_whole_or_not_at_all() {
    let mut daemon = Daemon::start("--workers 1 --fsync everysec");
    let pop = request(&[b"SPOP", b"q", MANY.to_string().as_bytes()]);
    let cases = [(naming_all("SADD"), 3, 0), (naming_all("SREM"), 9, MANY), (pop, 3, MANY)];
    for is_killed in [false, true] {
        for (command, slices, before) in &cases {
            let mut observer = daemon.redis();
            if *before > 0 {
                observer.ask(naming_all("SADD"), format!(":{before}\r\n"));
            }
            let (mut client, id) = begin(&daemon, &mut observer, command, *slices);
            if is_killed {
                let kill = format!("CLIENT KILL ID {id}\r\n");
                assert_eq!(number(&mut observer, &kill), 1);
                // On a busy machine the command may have been answered before.
                client.read_to_end();
            } else {
                client.reset();
            }
            // This waits until the command is over.
            let left = number(&mut observer, "SCARD q\r\n");
            assert!([0, MANY].contains(&left), "{left} of {before}, killed: {is_killed}");
            daemon = daemon.restart();
            let mut observer = daemon.redis();
            assert_eq!(number(&mut observer, "SCARD q\r\n"), left, "killed: {is_killed}");
            observer.ask("FLUSHALL\r\n", "+OK\r\n");
        }
    }
}
