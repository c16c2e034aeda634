//! Readers that go away, and people who wait at a terminal.

use super::bench::*;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A pseudo terminal that keeps what is written to it.
struct Terminal {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
    end: File,
}

impl Terminal {
    fn new() -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let end = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let text = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let (mut master, mut bytes) = (File::from(master), [0; 4096]);
            // It ends with an error when nobody has the other end any more.
            while let Ok(count @ 1..) = master.read(&mut bytes) {
                kept.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Terminal { text, reader, end }
    }

    /// The end that a program writes to.
    fn stdio(&self) -> Stdio {
        self.end.try_clone().unwrap().into()
    }

    fn text(&self) -> String {
        String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
    }

    /// Waits until this has been written.
    fn wait_for(&self, text: &str) {
        let start = Instant::now();
        while !self.text().contains(text) {
            assert!(start.elapsed() < GUARD, "never {text:?} in {:?}", self.text());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The lines that somebody sees in the end, when nobody writes any more.
    fn seen(self) -> Vec<String> {
        drop(self.end);
        self.reader.join().unwrap();
        let text = std::mem::take(&mut *self.text.lock().unwrap());
        let (mut lines, mut line, mut column) = (Vec::new(), Vec::new(), 0);
        for byte in text {
            match byte {
                b'\r' => column = 0,
                b'\n' => lines.push(std::mem::take(&mut line)),
                _ => {
                    line.resize(line.len().max(column + 1), b' ');
                    line[column] = byte;
                    column += 1;
                }
            }
        }
        lines.push(line);
        let text = |line: Vec<u8>| String::from_utf8(line).unwrap().trim_end().to_string();
        lines.into_iter().map(text).filter(|line| !line.is_empty()).collect()
    }
}

fn wait(mut child: Child) -> Option<i32> {
    child.wait().unwrap().code()
}

/// An export whose reader waits.
fn export_to_nobody(path: &std::path::Path, said: Stdio) -> Child {
    wait_until_free(path);
    command(path, &["export"]).stdout(Stdio::piped()).stderr(said).spawn().unwrap()
}

#[test]
fn long_work_shows_on_a_terminal_how_far_it_is_and_leaves_nothing_there() {
    let directory = directory_of(&[(b"jobs", 5000)]);
    let terminal = Terminal::new();
    let mut child = export_to_nobody(directory.path(), terminal.stdio());
    // It cannot write on, so it waits, and so does whoever looks at it.
    terminal.wait_for("writing jobs: ");
    terminal.wait_for("% of 312.5 KiB");
    let mut lines = String::new();
    child.stdout.take().unwrap().read_to_string(&mut lines).unwrap();
    assert_eq!(lines.lines().count(), 5000);
    assert!(!lines.contains("writing"), "the line is no part of the output");
    assert_eq!(wait(child), Some(0));
    assert_eq!(terminal.seen(), [""; 0]);
}

#[test]
fn an_import_from_a_pipe_shows_how_much_it_has_read() {
    let directory = TempDir::new().unwrap();
    let terminal = Terminal::new();
    let mut child = command(directory.path(), &["import"])
        .stdin(Stdio::piped())
        .stdout(terminal.stdio())
        .stderr(terminal.stdio())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"{\"queue\":\"jobs\",\"value\":\"one\"}\n").unwrap();
    terminal.wait_for("importing: 31 bytes");
    drop(input);
    assert_eq!(wait(child), Some(0));
    assert_eq!(terminal.seen(), ["imported 1 message, durably"]);
}

#[test]
fn nothing_is_shown_where_there_is_no_terminal() {
    let directory = directory_of(&[(b"jobs", 5000)]);
    let mut child = export_to_nobody(directory.path(), Stdio::piped());
    let mut output = child.stdout.take().unwrap();
    let mut bytes = [0; 100];
    output.read_exact(&mut bytes).unwrap();
    // Longer than it takes on a terminal: only this waiting could show that something is wrong.
    thread::sleep(Duration::from_secs(1));
    std::io::copy(&mut output, &mut std::io::sink()).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((wait(child), said.as_str()), (Some(0), ""));
}

/// As with `| head -1`.
#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let directory = directory_of(&[(b"jobs", 5000)]);
    let file = segments(&directory.path().join("q-jobs")).last().unwrap().clone();
    let file = file.to_str().unwrap();
    for arguments in [
        &["messages", "jobs"][..],
        &["messages", "jobs", "--hex"],
        &["messages", "jobs", "--raw"],
        &["messages", "jobs", "--json"],
        &["export"],
        &["export", "--redis"],
        &["segment", file],
    ] {
        wait_until_free(directory.path());
        let mut command = command(directory.path(), arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::with_capacity(64, child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(!line.is_empty());
        drop(output);
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((wait(child), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

/// A shell's pipe, with every command that prints.
#[test]
fn output_survives_head() {
    let directory = directory_of(&[(b"jobs", 3000)]);
    let program = env!("CARGO_BIN_EXE_mq-dump");
    let path = directory.path().to_str().unwrap();
    for arguments in ["list", "show jobs", "verify", "repair", "--help", "messages jobs", "export"]
    {
        wait_until_free(directory.path());
        let line = format!("{program} --dir {path} {arguments} | head -1; exit ${{PIPESTATUS[0]}}");
        let output = Command::new("bash").args(["-c", &line]).output().unwrap();
        let (printed, said) = texts(&output);
        assert_eq!((printed.lines().count(), said.as_str()), (1, ""), "{arguments}");
        assert_eq!(output.status.code(), Some(0), "{arguments}");
    }
}
