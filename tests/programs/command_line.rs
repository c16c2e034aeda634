//! The daemon as a process: options, exit codes, start-up lines, signals.

use crate::common::{Client, Daemon, command, run};
use rustix::process::Signal;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    assert!(text.ends_with('\n') && text.lines().count() == 1, "not one line: {text:?}");
    text
}

#[test]
fn a_mistake_is_one_line_on_standard_error_and_exit_code_2() {
    for arguments in ["--bogus", "--store tape", "--max-clients 0", "--redis off --memcached off"] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert_eq!(output.stdout, b"", "{arguments}");
        assert!(one_line(&output.stderr).starts_with("mqd: "), "{arguments}");
    }
}

#[test]
fn a_wrong_level_in_the_environment_is_a_mistake_too() {
    let output = command().env("MQ_LOG", "loud").output().expect("the daemon starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(one_line(&output.stderr).contains("MQ_LOG"));
}

#[test]
fn help_and_version_go_to_standard_output_with_exit_code_0() {
    for (arguments, start) in
        [("-h", "mqd: "), ("--help", "mqd: "), ("-V", "mqd 0."), ("--version", "mqd 0.")]
    {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments}");
        assert_eq!(output.stderr, b"", "{arguments}");
        assert!(output.stdout.starts_with(start.as_bytes()), "{arguments}");
    }
}

#[test]
fn an_address_in_use_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = run(&format!("--store kv --redis {address} --memcached off"));
    assert_eq!(output.status.code(), Some(1));
    assert!(one_line(&output.stderr).contains(&address));
    assert_eq!(output.stdout, b"");
}

#[test]
fn more_clients_than_open_files_are_refused_at_the_start() {
    let script = "ulimit -n 100 && exec \"$0\" --store kv --max-clients 37 --redis 127.0.0.1:0";
    let output = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_mqd")])
        .output()
        .expect("a shell");
    assert_eq!(output.status.code(), Some(1));
    assert!(one_line(&output.stderr).contains("open files"));
}

#[test]
fn without_a_word_on_clients_there_are_as_many_as_open_files_allow() {
    let script = "ulimit -n 100 && exec \"$0\" --store kv --redis 127.0.0.1:0 --memcached off";
    let mut child = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_mqd")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let line = lines.next().expect("a line").expect("text");
    let address = line.strip_prefix("redis listening on ").expect("the start-up line");
    let mut client = Client::connect(address.parse().expect("an address"));
    client.ask("CONFIG GET maxclients\r\n", "*2\r\n$10\r\nmaxclients\r\n$2\r\n36\r\n");
    child.kill().expect("the daemon runs");
    let output = child.wait_with_output().expect("the daemon ends");
    let log = String::from_utf8(output.stderr).expect("text");
    assert!(log.contains(" WARN  at most 36 clients, not "), "{log}");
}

#[test]
fn only_the_listeners_that_are_on_are_announced() {
    let mut child = command()
        .args(["--store", "kv", "--redis", "off", "--memcached", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the daemon starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let line = lines.next().expect("a line").expect("text");
    let address = line.strip_prefix("memcached listening on ").expect("the start-up line");
    let mut client = Client::connect(address.parse().expect("an address"));
    client.ask("get nothing\r\n", "END\r\n");
    child.kill().expect("the daemon runs");
    child.wait().expect("the daemon ends");
    assert!(lines.next().is_none());
}

#[test]
fn the_daemon_serves_when_nobody_takes_its_output() {
    let full = || OpenOptions::new().write(true).open("/dev/full").expect("a full device");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = port.expect("a free port");
    let mut child = command()
        .args(["--store", "kv", "--memcached", "off", "--log", "debug", "--redis"])
        .arg(address.to_string())
        .stdout(Stdio::from(full()))
        .stderr(Stdio::from(full()))
        .spawn()
        .expect("the daemon starts");
    while std::net::TcpStream::connect(address).is_err() {
        assert!(child.try_wait().expect("a child").is_none(), "the daemon has ended");
        std::thread::yield_now();
    }
    Client::connect(address).ask("PING\r\n", "+PONG\r\n");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).expect("the daemon runs");
    assert_eq!(child.wait().expect("the daemon ends").code(), Some(0));
}

#[test]
fn sigterm_and_sigint_end_the_daemon_with_exit_code_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start("--store kv");
        let mut idle = daemon.redis();
        idle.ask("PING\r\n", "+PONG\r\n");
        daemon.signal(signal);
        assert_eq!(daemon.wait().code(), Some(0), "{signal:?}");
        idle.expect_end();
    }
}

/// What is kept in memory alone would be lost.
#[test]
fn other_signals_do_not_end_the_daemon() {
    let daemon = Daemon::start("--store memory");
    let mut client = daemon.redis();
    client.ask("SADD q a\r\n", ":1\r\n");
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::XFSZ, Signal::PIPE] {
        daemon.signal(signal);
        client.ask("SCARD q\r\n", ":1\r\n");
    }
    daemon.redis().ask("SPOP q\r\n", "$1\r\na\r\n");
}

#[test]
fn replies_in_hand_are_whole_when_the_daemon_stops() {
    let mut daemon = Daemon::start("--store kv");
    let mut client = daemon.redis();
    let mut sender = client.sender();
    client.ask("PING\r\n", "+PONG\r\n");
    let sending = std::thread::spawn(move || {
        use std::io::Write;
        while sender.write_all("PING\r\n".repeat(1000).as_bytes()).is_ok() {}
    });
    client.expect("+PONG\r\n".repeat(1000));
    daemon.signal(Signal::TERM);
    let replies = client.read_to_end();
    assert_eq!(replies.len() % 7, 0, "a reply was cut");
    drop(client);
    sending.join().expect("no panic");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_daemon_at_once() {
    let mut daemon = Daemon::start("--store kv");
    let mut client = daemon.redis();
    client.ask(crate::common::request(&[b"SET", b"k", &vec![b'x'; 1 << 20]]), "+OK\r\n");
    // A client that does not read: the stop would wait for it.
    client.send("GET k\r\n".repeat(100));
    client.expect("$1048576\r\n");
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("stopping");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(1));
}

#[test]
fn a_second_daemon_on_the_same_directory_is_one_line_and_exit_code_1() {
    let daemon = Daemon::start("");
    let directory = daemon.directory().display();
    let output = run(&format!("--dir {directory} --redis 127.0.0.1:0 --memcached off"));
    assert_eq!(output.status.code(), Some(1));
    assert!(one_line(&output.stderr).contains("another daemon"));
    assert_eq!(output.stdout, b"");
    daemon.redis().ask("SADD q a\r\n", ":1\r\n");
}

#[test]
fn what_was_answered_is_there_after_a_stop_and_after_a_kill() {
    let mut daemon = Daemon::start("");
    daemon.redis().ask("SADD q a b c\r\n", ":3\r\n");
    assert_eq!(daemon.terminate().code(), Some(0));
    let mut daemon = daemon.restart();
    daemon.redis().ask("SPOP q\r\n", "$1\r\na\r\n");
    daemon.kill();
    let daemon = daemon.restart();
    daemon.memcached().ask("get q\r\n", "VALUE q 0 1\r\nb\r\nEND\r\n");
    daemon.redis().ask("SMEMBERS q\r\n", "*1\r\n$1\r\nc\r\n");
}
