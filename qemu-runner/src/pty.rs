//! A program on a terminal of its own, to which a script types: what a person does at `cargo xen run`.

use crate::process::{self, Child};
use anyhow::{Context as _, Result, bail};
use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The terminal's size: what a serial console counts on.
const SIZE: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};
/// Between two keys, so that no input queue on the way is asked to hold a whole line.
const KEY_PAUSE: Duration = Duration::from_millis(5);

/// A program and the terminal it runs on.
pub(crate) struct Session {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// All that was printed.
    printed: String,
    /// Where what nobody has asked for yet starts in it.
    from: usize,
}

impl Session {
    /// Starts `command` with a new terminal as its standard streams.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let pty = openpty(Some(&SIZE), None).context("cannot open a terminal")?;
        let slave = || -> Result<Stdio> { Ok(pty.slave.try_clone()?.into()) };
        command.stdin(slave()?).stdout(slave()?).stderr(slave()?);
        let child = Child::spawn(&mut command)?;
        // With the last of these the terminal is closed, which is how the reader learns of the end.
        drop(command);
        drop(pty.slave);
        let keyboard = File::from(pty.master);
        let mut output = keyboard.try_clone()?;
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = output.read(&mut buffer) {
                if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            keyboard,
            screen,
            printed: String::new(),
            from: 0,
        })
    }

    /// Reads until `text` is printed behind what was asked for before.
    pub(crate) fn expect(&mut self, text: &str, deadline: Instant) -> Result<()> {
        loop {
            let rest = self.printed.get(self.from..).unwrap_or_default();
            if let Some(at) = rest.find(text) {
                self.from += at + text.len();
                return Ok(());
            }
            if process::interrupted() {
                bail!("interrupted");
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.print(&bytes),
                Err(RecvTimeoutError::Timeout) => bail!("{text:?} was not seen in time"),
                Err(RecvTimeoutError::Disconnected) => bail!("the end came before {text:?}"),
            }
        }
    }

    fn print(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        self.printed.extend(text.chars().filter(|c| *c != '\r'));
    }

    /// Types `keys`.
    pub(crate) fn send(&mut self, keys: &str) -> Result<()> {
        for key in keys.bytes() {
            self.keyboard
                .write_all(&[key])
                .context("cannot type on the terminal")?;
            std::thread::sleep(KEY_PAUSE);
        }
        Ok(())
    }

    /// Waits for the program's end; `None` if it does not come until `deadline`.
    pub(crate) fn finish(&mut self, deadline: Instant) -> Result<Option<ExitStatus>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.print(&bytes),
                Err(_) => return self.child.wait_until(Some(deadline)),
            }
        }
    }

    /// All that was printed, without carriage returns.
    pub(crate) fn printed(&self) -> &str {
        &self.printed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Session {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Session::start(command).unwrap()
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[test]
    fn it_is_a_terminal_that_answers() {
        let mut session =
            shell("test -t 0 && test -t 1 && echo name; read n; echo hello $n; exit 3");
        session.expect("name", later()).unwrap();
        session.send("you\n").unwrap();
        session.expect("hello you", later()).unwrap();
        let status = session.finish(later()).unwrap().unwrap();
        assert_eq!(status.code(), Some(3));
        assert!(session.printed().contains("name\n"));
    }

    #[test]
    fn each_text_is_looked_for_behind_the_one_before() {
        let mut session = shell("echo a b a");
        session.expect("b", later()).unwrap();
        session.expect("a", later()).unwrap();
        let error = session.expect("b", later()).unwrap_err().to_string();
        assert!(error.contains("the end came"), "{error}");
    }

    #[test]
    fn what_never_comes_is_given_up() {
        let mut session = shell("sleep 600");
        let error = session.expect("x", Instant::now()).unwrap_err().to_string();
        assert!(error.contains("not seen in time"), "{error}");
        assert_eq!(session.finish(Instant::now()).unwrap(), None);
    }
}
