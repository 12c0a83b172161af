//! What the runner says. All of it goes to stderr, so that stdout carries only what the guest or a report prints.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Prints one line about what is being done.
macro_rules! say {
    ($($arg:tt)*) => { eprintln!("cargo xen: {}", format_args!($($arg)*)) };
}
/// Prints one line that the user should act on.
macro_rules! caution {
    ($($arg:tt)*) => { eprintln!("cargo xen: warning: {}", format_args!($($arg)*)) };
}
pub(crate) use caution as warn;
pub(crate) use say;

/// Longest note beside a spinner, in characters.
const NOTE: usize = 60;

/// Prints an error and its causes.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("cargo xen: error: {error:#}");
}

/// Whether moving bars make sense: a person watches, on a terminal.
pub(crate) fn animated() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("CI").is_none()
}

static QUIET: AtomicBool = AtomicBool::new(false);

/// From here on steps say nothing: another display tells how it goes.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Asks a person; yes where there is none to ask.
pub(crate) fn agreed(question: &str) -> bool {
    if !animated() || !std::io::stdin().is_terminal() {
        return true;
    }
    eprint!("cargo xen: {question} [Y/n] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    if std::io::stdin().lock().read_line(&mut answer).is_err() || answer.is_empty() {
        return false;
    }
    matches!(
        answer.trim().to_ascii_lowercase().as_str(),
        "" | "y" | "yes"
    )
}

/// A step that takes a while. A person sees a spinner, a log sees one line.
pub(crate) struct Step(Option<ProgressBar>);

impl Step {
    pub(crate) fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        if QUIET.load(Ordering::Relaxed) {
            return Self(None);
        }
        if !animated() {
            eprintln!("cargo xen: {what}");
            return Self(None);
        }
        Self(Some(drawn(
            ProgressBar::new_spinner().with_prefix(what),
            "{spinner} {prefix} ({elapsed}) {msg:.dim}",
        )))
    }

    /// A step of which is known how many bytes it brings.
    pub(crate) fn bytes(what: impl Into<String>, total: u64) -> Self {
        let what = what.into();
        if !animated() || QUIET.load(Ordering::Relaxed) {
            eprintln!("cargo xen: {what} ({:.1} MB)", total as f64 / 1e6);
            return Self(None);
        }
        Self(Some(drawn(
            ProgressBar::new(total).with_prefix(what),
            "{spinner} {prefix} [{bar:25}] {bytes}/{total_bytes}",
        )))
    }

    /// Says beside the spinner what is going on.
    pub(crate) fn note(&self, what: &str) {
        if let Some(bar) = &self.0 {
            let printable = what.chars().filter(|c| !c.is_control());
            bar.set_message(printable.take(NOTE).collect::<String>());
        }
    }

    /// How many bytes there are by now.
    pub(crate) fn reached(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(bytes);
        }
    }

    /// Prints a line of its own, out of the spinner's way.
    pub(crate) fn line(&self, line: &str) {
        match &self.0 {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn drawn(bar: ProgressBar, template: &str) -> ProgressBar {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A bar over `total` named items, for a test run; silent where nobody watches.
pub(crate) fn progress(total: usize) -> ProgressBar {
    if !animated() {
        return ProgressBar::hidden();
    }
    drawn(
        ProgressBar::new(total as u64),
        "[{pos}/{len}] {bar:30} {msg} ({elapsed})",
    )
}
