//! A machine's serial console, read to its end or to a deadline, and kept in a log.

use crate::machine::Machine;
use crate::process::{self, Child};
use anyhow::{Context as _, Result};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How a boot ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// QEMU ended by itself: the machine was powered off or reset.
    PoweredOff,
    /// The reader had seen enough.
    Enough,
    /// The deadline passed.
    TimedOut,
}

/// What a boot printed, and how it ended.
pub(crate) struct Transcript {
    pub lines: Vec<String>,
    pub ending: Ending,
}

impl Transcript {
    /// The last lines, for a report.
    pub(crate) fn tail(&self, count: usize) -> String {
        let from = self.lines.len().saturating_sub(count);
        self.lines
            .iter()
            .skip(from)
            .map(|l| format!("    {l}\n"))
            .collect()
    }
}

/// What the reader of lines wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    More,
    /// End the machine now.
    Stop,
}

/// Boots the machine and hands each line to `each`, until it ends, `each` has enough, or `bound` is over.
pub(crate) fn watch(
    machine: &Machine,
    extra: &[&str],
    bound: Duration,
    log: &Path,
    mut each: impl FnMut(&str) -> Next,
) -> Result<Transcript> {
    let mut command = machine.command(&[&["-serial", "stdio"], extra].concat());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = Child::spawn(&mut command)?;
    let (sender, lines) = channel();
    let mut threads = Vec::new();
    if let Some(stdout) = child.take_stdout() {
        let sender = sender.clone();
        threads.push(std::thread::spawn(move || pump(stdout, &sender)));
    }
    if let Some(stderr) = child.take_stderr() {
        threads.push(std::thread::spawn(move || pump(stderr, &sender)));
    }
    let mut file =
        std::fs::File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let deadline = Instant::now() + bound;
    let mut transcript = Transcript {
        lines: Vec::new(),
        ending: Ending::TimedOut,
    };
    transcript.ending = read(&lines, deadline, &mut |line| {
        let _ = writeln!(file, "{line}");
        transcript.lines.push(line.to_owned());
        each(line)
    });
    child.end();
    if process::interrupted() {
        anyhow::bail!("interrupted");
    }
    Ok(transcript)
}

fn read(lines: &Receiver<String>, deadline: Instant, each: &mut dyn FnMut(&str) -> Next) -> Ending {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => {
                if each(&line) == Next::Stop {
                    return Ending::Enough;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ending::PoweredOff,
            Err(RecvTimeoutError::Timeout) => return Ending::TimedOut,
        }
    }
}

/// Splits a stream into lines; what a terminal would swallow is left out.
fn pump(mut stream: impl std::io::Read, sender: &std::sync::mpsc::Sender<String>) {
    let mut pending = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        pending.extend(&buffer[..count]);
        while let Some(end) = pending.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if sender.send(clean(&line)).is_err() {
                return;
            }
        }
    }
    if !pending.is_empty() {
        let _ = sender.send(clean(&pending));
    }
}

fn clean(line: &[u8]) -> String {
    String::from_utf8_lossy(line).replace(['\r', '\n', '\0'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_become_lines() {
        let (sender, lines) = channel();
        pump(&b"one\r\ntwo\nlast"[..], &sender);
        drop(sender);
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["one", "two", "last"]);
    }

    #[test]
    fn reading_ends_at_the_line_that_is_enough_or_at_the_deadline() {
        let (sender, lines) = channel();
        sender.send("a".to_owned()).unwrap();
        sender.send("b".to_owned()).unwrap();
        let soon = Instant::now() + Duration::from_secs(60);
        let mut stop = |line: &str| if line == "a" { Next::Stop } else { Next::More };
        assert_eq!(read(&lines, soon, &mut stop), Ending::Enough);
        assert_eq!(
            read(&lines, Instant::now(), &mut |_| Next::More),
            Ending::TimedOut
        );
        drop(sender);
        assert_eq!(read(&lines, soon, &mut |_| Next::More), Ending::PoweredOff);
    }
}
