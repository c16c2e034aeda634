//! The harness of the tests over real sockets: the built daemon as a child process, and clients
//! that keep their conversation and print it when an expectation fails.
//!
//! A daemon has free ports and a directory of its own. Timeouts are guards against hanging, never
//! what a test measures.

pub mod capture;
pub mod opening;
pub mod program;

use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Only a guard against hanging.
pub const GUARD: Duration = Duration::from_secs(120);

/// A running daemon, killed when dropped.
pub struct Daemon {
    child: Child,
    directory: TempDir,
    arguments: Vec<String>,
    redis: Option<SocketAddr>,
    memcached: Option<SocketAddr>,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts the daemon with `arguments` (separated by spaces) beside ports and a directory of its
    /// own.
    pub fn start(arguments: &str) -> Daemon {
        Daemon::start_from(command(), arguments)
    }

    /// The same, started by `command`, which is the daemon's without arguments.
    pub fn start_from(command: Command, arguments: &str) -> Daemon {
        let directory = TempDir::new().expect("a temporary directory");
        Daemon::start_in(command, directory, words(arguments))
    }

    /// The same, with an address space of so many bytes.
    pub fn start_within(bytes: u64, arguments: &str) -> Daemon {
        let mut shell = Command::new("sh");
        let kib = (bytes >> 10).to_string();
        shell.args(["-c", "ulimit -v $0; exec \"$@\"", &kib, env!("CARGO_BIN_EXE_mqd")]);
        shell.env_remove("MQ_LOG").stdin(Stdio::null());
        Daemon::start_from(shell, arguments)
    }

    /// Starts it again on the same directory, after `kill` or `terminate`.
    pub fn restart(self) -> Daemon {
        let arguments = self.arguments.clone();
        self.restart_with(arguments)
    }

    /// Starts it again on the same directory with other arguments.
    pub fn restart_with(mut self, arguments: Vec<String>) -> Daemon {
        self.kill();
        let empty = TempDir::new().expect("a temporary directory");
        let directory = std::mem::replace(&mut self.directory, empty);
        Daemon::start_in(command(), directory, arguments)
    }

    fn start_in(mut command: Command, directory: TempDir, arguments: Vec<String>) -> Daemon {
        let mut child = command
            .args(["--redis", "127.0.0.1:0", "--memcached", "127.0.0.1:0", "--dir"])
            .arg(directory.path())
            .args(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let log = Arc::new(Mutex::new(String::new()));
        keep(child.stderr.take().expect("a pipe"), Arc::clone(&log));
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut daemon = Daemon { child, directory, arguments, redis: None, memcached: None, log };
        for protocol in ["redis", "memcached"] {
            let Some(Ok(line)) = lines.next() else { daemon.fail("no start-up line") };
            let address = line.strip_prefix(&format!("{protocol} listening on "));
            let Some(address) = address.and_then(|address| address.parse().ok()) else {
                daemon.fail(&format!("a strange start-up line: {line}"))
            };
            *if protocol == "redis" { &mut daemon.redis } else { &mut daemon.memcached } =
                Some(address);
        }
        daemon
    }

    /// The address of the Redis listener.
    pub fn redis_address(&self) -> SocketAddr {
        self.redis.expect("a Redis listener")
    }

    /// The address of the memcached listener.
    pub fn memcached_address(&self) -> SocketAddr {
        self.memcached.expect("a memcached listener")
    }

    /// A new Redis client.
    pub fn redis(&self) -> Client {
        Client::connect(self.redis_address())
    }

    /// A new memcached client.
    pub fn memcached(&self) -> Client {
        Client::connect(self.memcached_address())
    }

    /// The daemon's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal`.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the daemon is there");
    }

    /// SIGKILL: what the daemon has not handed to the system is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; answers how the daemon ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the daemon's end.
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        while start.elapsed() < GUARD {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.fail("the daemon does not end")
    }

    /// What the daemon has written to its standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic in the reader").clone()
    }

    /// Waits until `text` stands in the log.
    pub fn wait_for_log(&self, text: &str) {
        let start = Instant::now();
        while !self.log().contains(text) {
            if start.elapsed() > GUARD {
                self.fail(&format!("the log never said {text:?}"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Bytes of memory that the process has in use now (`VmRSS`), or had at most (`VmHWM`).
    pub fn memory(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("the daemon runs");
        let line = status.lines().find(|line| line.starts_with(field)).expect("a known field");
        line.split_whitespace()
            .nth(1)
            .and_then(|text| text.parse().ok())
            .map_or(0, |k: u64| k << 10)
    }

    fn fail(&self, reason: &str) -> ! {
        // The reader of the pipe may be a step behind.
        thread::sleep(Duration::from_millis(100));
        panic!("{reason}; the daemon's log:\n{}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

fn keep(mut pipe: impl Read + Send + 'static, log: Arc<Mutex<String>>) {
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..count]);
            log.lock().expect("no panic under the lock").push_str(&text);
        }
    });
}

fn words(arguments: &str) -> Vec<String> {
    arguments.split_whitespace().map(String::from).collect()
}

/// The daemon's binary, with a clean environment.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqd"));
    command.env_remove("MQ_LOG").stdin(Stdio::null());
    command
}

/// Runs the daemon with `arguments` (separated by spaces) to its end.
pub fn run(arguments: &str) -> Output {
    command().args(arguments.split_whitespace()).output().expect("the daemon starts")
}

/// A client that keeps its conversation.
pub struct Client {
    stream: TcpStream,
    conversation: String,
}

impl Client {
    /// Connects to `address`.
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the daemon listens");
        stream.set_read_timeout(Some(GUARD)).expect("a socket has timeouts");
        stream.set_nodelay(true).expect("a socket has options");
        Client { stream, conversation: String::new() }
    }

    /// The addresses of this end and of the daemon's.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        let local = self.stream.local_addr().expect("the socket is open");
        (local, self.stream.peer_addr().expect("the daemon is there"))
    }

    /// Sends `bytes`.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.note("->", bytes.as_ref());
        if let Err(error) = self.stream.write_all(bytes.as_ref()) {
            self.fail(&format!("cannot send: {error}"));
        }
    }

    /// Sends `bytes` and expects exactly `reply`.
    pub fn ask(&mut self, bytes: impl AsRef<[u8]>, reply: impl AsRef<[u8]>) {
        self.send(bytes);
        self.expect(reply);
    }

    /// Expects exactly these bytes next.
    pub fn expect(&mut self, reply: impl AsRef<[u8]>) {
        let expected = reply.as_ref();
        let mut got = vec![0; expected.len()];
        let mut count = 0;
        while count < got.len() && got[..count] == expected[..count] {
            match self.stream.read(&mut got[count..]) {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.note("<-", &got[..count]);
                    self.fail(&format!("{error}, expected {}", shown(expected)));
                }
            }
        }
        self.note("<-", &got[..count]);
        if got[..count] != *expected {
            self.fail(&format!("expected {}", shown(expected)));
        }
    }

    /// Reads exactly `count` bytes.
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let outcome = self.stream.read_exact(&mut bytes);
        self.note("<-", &bytes);
        if let Err(error) = outcome {
            self.fail(&format!("expected {count} bytes: {error}"));
        }
        bytes
    }

    /// Reads one line, without its CRLF.
    pub fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            match self.stream.read(&mut byte) {
                Ok(1) => line.push(byte[0]),
                outcome => {
                    self.note("<-", &line);
                    self.fail(&format!("expected a line: {outcome:?}"));
                }
            }
        }
        self.note("<-", &line);
        String::from_utf8_lossy(&line[..line.len() - 2]).into_owned()
    }

    /// Everything up to the daemon's end of the connection.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let outcome = self.stream.read_to_end(&mut bytes);
        self.note("<-", &bytes);
        match outcome {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => {
                self.fail(&format!("expected the end: {error}"))
            }
            _ => bytes,
        }
    }

    /// Expects that the daemon closes the connection and sends nothing before that.
    pub fn expect_end(&mut self) {
        if !self.read_to_end().is_empty() {
            self.fail("expected the end");
        }
    }

    /// Sends nothing more, and goes on reading.
    pub fn half_close(&mut self) {
        self.note("->", b"(end)");
        self.stream.shutdown(Shutdown::Write).expect("the socket is open");
    }

    /// Ends the connection as a process that is killed does: what the daemon has not read is lost.
    pub fn reset(self) {
        set_socket_linger(&self.stream, Some(Duration::ZERO)).expect("a socket has options");
    }

    /// A second handle of the same socket, for a thread that sends while this one reads.
    pub fn sender(&self) -> TcpStream {
        self.stream.try_clone().expect("a descriptor is free")
    }

    fn note(&mut self, direction: &str, bytes: &[u8]) {
        let _ = writeln!(self.conversation, "{direction} {}", shown(bytes));
    }

    fn fail(&self, reason: &str) -> ! {
        panic!("{reason}; the conversation:\n{}", self.conversation);
    }
}

/// The bytes on one line, the middle of long ones left out.
fn shown(bytes: &[u8]) -> String {
    const EDGE: usize = 200;
    if bytes.len() <= 2 * EDGE {
        return format!("\"{}\"", bytes.escape_ascii());
    }
    let (head, tail) = (&bytes[..EDGE], &bytes[bytes.len() - EDGE..]);
    format!("\"{}\" ... \"{}\" ({} bytes)", head.escape_ascii(), tail.escape_ascii(), bytes.len())
}

/// A Redis request of `arguments`.
pub fn request(arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
