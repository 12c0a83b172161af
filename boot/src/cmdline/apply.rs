//! What the parameters mean to the hypervisor's console.

use super::{LogLevel, LogLevels, Params, Timestamps};
use log::LevelFilter;
use xen_core::console::{self, Console, Levels};

impl Params {
    /// Applies what concerns messages, timestamps and the input's switch, none of which needs a heap.
    pub fn apply_to(&self, console: &Console) {
        // Messages about starting up are information; without a word about it they are shown.
        let own = if self.loglvl == Self::default().loglvl {
            LevelFilter::Info.into()
        } else {
            levels(self.loglvl)
        };
        console.set_levels(own, levels(self.guest_loglvl));
        console.set_switch(self.conswitch.key, self.conswitch.stay_in_xen);
        console.set_to_ring(self.console_to_ring);
        console.set_timestamps(match self.console_timestamps {
            Timestamps::None => console::Timestamps::None,
            Timestamps::Date => console::Timestamps::Date,
            Timestamps::DateMs => console::Timestamps::DateMs,
            Timestamps::Boot => console::Timestamps::Boot,
            Timestamps::Raw => console::Timestamps::Raw,
        });
    }

    /// Gives the console ring the size that was asked for; for when there is a heap. Says so if there is no memory.
    pub fn size_ring_of(&self, console: &Console) {
        let size = usize::try_from(self.conring_size).unwrap_or(usize::MAX);
        if size != console.ring_size() && console.set_ring_size(size).is_err() {
            let now = console.ring_size() >> 10;
            log::warn!(
                "no memory for a console ring of {} KiB: it has {now}",
                size >> 10
            );
        }
    }

    /// Says of a parameter that was given that it changes nothing on any machine.
    pub fn without_effect(&self) -> Option<&'static str> {
        self.sync_console
            .then_some("sync_console changes nothing: each message is out before the next step")
    }
}

fn levels(levels: LogLevels) -> Levels {
    Levels {
        always: filter(levels.always),
        limited: filter(levels.limited),
    }
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::None => LevelFilter::Off,
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warning => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn the_console_does_what_the_line_says() {
        let console = Console::new();
        let params = parse("conring_size=4k console_timestamps=boot guest_loglvl=none").params;
        params.apply_to(&console);
        params.size_ring_of(&console);
        assert_eq!(console.ring_size(), 4096);
        assert!(!console.shows_guests(log::Level::Error));
        let params = parse("guest_loglvl=error/info").params;
        params.apply_to(&console);
        assert!(console.shows_guests(log::Level::Info));
        assert!(!console.shows_guests(log::Level::Debug));
    }

    #[test]
    fn what_changes_nothing_is_said() {
        assert_eq!(parse("").params.without_effect(), None);
        assert!(parse("sync_console").params.without_effect().is_some());
    }
}
