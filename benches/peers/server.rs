//! A server under measurement: a process on a free loopback port, with a directory of its own.
//!
//! It is killed and its directory removed when the value is dropped, whatever has happened. What it
//! costs is read from `/proc`. This file knows programs and their arguments, and no protocol.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a server may take until it accepts connections.
const START: Duration = Duration::from_secs(10);

/// Ticks a second in `/proc/PID/stat`, on every architecture that Rust knows.
pub const TICKS: u32 = 100;

/// What can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// mqd with its Redis listener.
    MqdRedis,
    /// mqd with its memcached listener.
    MqdMemcached,
    /// redis-server.
    Redis,
    /// memcached.
    Memcached,
    /// beanstalkd.
    Beanstalkd,
}

impl Program {
    /// All peers.
    pub const PEERS: [Program; 3] = [Program::Redis, Program::Memcached, Program::Beanstalkd];

    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Program::MqdRedis | Program::MqdMemcached => "mqd",
            Program::Redis => "redis-server",
            Program::Memcached => "memcached",
            Program::Beanstalkd => "beanstalkd",
        }
    }

    fn path(self) -> PathBuf {
        match self {
            Program::MqdRedis | Program::MqdMemcached => env!("CARGO_BIN_EXE_mqd").into(),
            peer => peer.name().into(),
        }
    }

    /// Returns the version it prints, or `None` if it is not installed.
    pub fn version(self) -> Option<String> {
        let option = if self == Program::Beanstalkd { "-v" } else { "--version" };
        let output = Command::new(self.path()).arg(option).stdin(Stdio::null()).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_string())
    }

    fn command(self, port: u16, directory: &Path) -> Command {
        let mut command = Command::new(self.path());
        let (port, address) = (port.to_string(), format!("127.0.0.1:{port}"));
        match self {
            Program::MqdRedis => command.args(["--redis", &address, "--memcached", "off"]),
            Program::MqdMemcached => command.args(["--memcached", &address, "--redis", "off"]),
            Program::Redis => command.args(["--bind", "127.0.0.1", "--port", &port, "--save", ""]),
            // It refuses to run as root unless a user is named.
            Program::Memcached => command.args(["-l", "127.0.0.1", "-p", &port, "-u", "root"]),
            Program::Beanstalkd => command.args(["-l", "127.0.0.1", "-p", &port]),
        };
        match self {
            Program::MqdRedis | Program::MqdMemcached => command.arg("--dir").arg(directory),
            Program::Redis => {
                command.args(["--auto-aof-rewrite-percentage", "0", "--dir"]).arg(directory)
            }
            Program::Beanstalkd => command.arg("-b").arg(directory),
            Program::Memcached => &mut command,
        };
        command
    }
}

/// The sum of the first `count` of these fields of a `/proc/PID/stat`: ticks in user mode, in
/// kernel mode, and the same of children that have ended.
pub fn ticks(stat: &str, count: usize) -> u64 {
    // The program's name in parentheses may hold anything; the state is the first word behind it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(count).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Without mapped files.
    pub anonymous: u64,
    /// With them.
    pub resident: u64,
}

/// A running server.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    // After the child, which is killed first.
    _directory: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have died by itself.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Server {
    /// Starts `program` and waits until it accepts connections.
    pub fn start<'a>(
        program: Program,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Result<Server, String> {
        let describe = |error: std::io::Error| format!("{}: {error}", program.name());
        let directory = TempDir::with_prefix("mq-peers-").map_err(describe)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(describe)?;
        let address = listener.local_addr().map_err(describe)?;
        drop(listener);
        let log = fs::File::create(directory.path().join("log")).map_err(describe)?;
        let errors = log.try_clone().map_err(describe)?;
        let data = directory.path().join("data");
        fs::create_dir(&data).map_err(describe)?;
        let mut command = program.command(address.port(), &data);
        command.args(arguments).stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn().map_err(describe)?;
        let server = Server { child, address, _directory: directory };
        server.wait_until_it_listens()?;
        Ok(server)
    }

    fn wait_until_it_listens(&self) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < START {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let log = fs::read_to_string(self._directory.path().join("log")).unwrap_or_default();
        Err(format!("it does not listen on {}: {}", self.address, log.trim()))
    }

    /// CPU time that it has used, in user and kernel mode, to a hundredth of a second.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(self.proc("stat")).unwrap_or_default();
        Duration::from_millis(ticks(&stat, 2) * 1000 / u64::from(TICKS))
    }

    /// Memory that it has now.
    pub fn memory(&self) -> Memory {
        let status = fs::read_to_string(self.proc("status")).unwrap_or_default();
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            kib.unwrap_or(0) * 1024
        };
        Memory { anonymous: bytes("RssAnon:"), resident: bytes("VmRSS:") }
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }
}
