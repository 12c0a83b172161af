//! What the runner says. All of it goes to stderr, so that stdout carries only what the guest or a report prints.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
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

/// Prints an error and its causes.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("cargo xen: error: {error:#}");
}

/// Whether moving bars make sense: a person watches, on a terminal.
pub(crate) fn animated() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("CI").is_none()
}

/// A step that takes a while. A person sees a spinner, a log sees one line.
pub(crate) struct Step(Option<ProgressBar>);

impl Step {
    pub(crate) fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        if !animated() {
            eprintln!("cargo xen: {what}");
            return Self(None);
        }
        let bar = ProgressBar::new_spinner().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(Some(bar))
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// A bar over `total` named items, for a test run; silent where nobody watches.
pub(crate) fn progress(total: usize) -> ProgressBar {
    if !animated() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total as u64);
    if let Ok(style) = ProgressStyle::with_template("[{pos}/{len}] {bar:30} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
