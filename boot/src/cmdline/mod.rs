//! The hypervisor's command line: Xen's syntax, and those of Xen's parameters that have a meaning here.
//!
//! [`parse`] never fails and never drops anything silently: what it does not understand keeps its default and becomes a
//! [`Complaint`] for the console. Syntax and defaults are those of Xen's `docs/misc/xen-command-line.pandoc`.
//!
//! Differences from Xen:
//! - single and double quotes keep spaces in a value; Xen knows no quotes;
//! - a parameter that Xen leaves undefined (an explicit value stacked on `no-`, a malformed number) is refused;
//! - `dom0_mem` has the x86 syntax (`min:`, `max:`, negative, percentages) on every architecture;
//! - `sched` knows `fair` (with `credit2` as another name) and `null` only;
//! - parameters of Xen that have no meaning here are named as ignored.

mod amount;
mod apply;
mod serial;
mod split;
mod table;
mod types;
mod value;

#[cfg(test)]
mod tests;

pub use amount::{Amount, Dom0Mem, VcpuRange};
pub use serial::{Parity, Serial};
pub use types::{
    BootScrub, ConSwitch, Console, Gnttab, LogLevel, LogLevels, Params, SchedulerName, Timestamps,
};

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use split::Words;
use table::{IGNORED, PARAMETERS};

/// Why a parameter has no effect, or not the one meant. `Display` says it in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The parameter as it stands on the command line.
    pub parameter: String,
    /// What is the matter with it.
    pub reason: Reason,
}

/// What is the matter with a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No parameter has this name.
    Unknown,
    /// The value is not one; the text says what it should be.
    Malformed(&'static str),
    /// Xen has the parameter, but it has no meaning here.
    Ignored,
    /// A quotation mark has no partner; the value runs to the end of the line.
    UnclosedQuote,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameter = &self.parameter;
        match self.reason {
            Reason::Unknown => write!(f, "command line: parameter {parameter:?} is unknown"),
            Reason::Malformed(expected) => {
                write!(f, "command line: {parameter:?} is malformed: {expected}")
            }
            Reason::Ignored => write!(
                f,
                "command line: {parameter:?} is a parameter of Xen without meaning here; it is ignored"
            ),
            Reason::UnclosedQuote => {
                write!(
                    f,
                    "command line: a quotation mark in {parameter:?} is not closed"
                )
            }
        }
    }
}

/// What a command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// All parameters, with their defaults where the line does not set them.
    pub params: Params,
    /// What could not be followed, in order.
    pub complaints: Vec<Complaint>,
    /// What follows a lone `--`, which ends the hypervisor's parameters.
    pub rest: Option<&'a str>,
}

/// Parses `line`. Of a parameter that is given twice the later one counts.
pub fn parse(line: &str) -> Parsed<'_> {
    let mut parsed = Parsed::default();
    let mut words = Words::new(line);
    while let Some(word) = words.next() {
        if word.raw == "--" {
            parsed.rest = Some(words.rest().trim());
            break;
        }
        let complaint = if word.unclosed {
            Err(Reason::UnclosedQuote)
        } else {
            apply(&mut parsed.params, &word.text)
        };
        if let Err(reason) = complaint {
            parsed.complaints.push(Complaint {
                parameter: word.raw.to_string(),
                reason,
            });
        }
    }
    parsed
}

fn apply(params: &mut Params, word: &str) -> Result<(), Reason> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let find = |name: &str| PARAMETERS.iter().find(|p| p.name == name);
    if let Some(parameter) = find(name) {
        return (parameter.set)(params, value).map_err(Reason::Malformed);
    }
    let positive = name.strip_prefix("no-");
    if let Some(parameter) = positive.and_then(find) {
        if value.is_some() {
            return Err(Reason::Malformed("a value cannot follow the prefix no-"));
        }
        return (parameter.set)(params, Some("no")).map_err(Reason::Malformed);
    }
    let ignored = |name: &str| {
        // Some names carry an index, as in ivrs_ioapic[4].
        let name = name.split('[').next().unwrap_or_default();
        IGNORED.contains(&name)
    };
    if ignored(name) || positive.is_some_and(ignored) {
        return Err(Reason::Ignored);
    }
    Err(Reason::Unknown)
}
