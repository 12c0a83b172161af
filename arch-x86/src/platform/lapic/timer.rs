//! The APIC timer: it holds no clock, but says when it is due.

use xen_core::Time;

/// Nanoseconds of a cycle of the bus that the timer counts: 100 MHz.
pub const BUS_CYCLE_NS: u64 = 10;
/// Least time between two interrupts of a periodic timer, in nanoseconds. Shorter periods are counted, but do not
/// interrupt each time.
pub const SHORTEST_PERIOD_NS: u64 = 100_000;

/// A point in time, as the machine and as the guest count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// System time.
    pub time: Time,
    /// The guest's time-stamp counter.
    pub tsc: u64,
}

/// When a timer is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// At a system time.
    Time(Time),
    /// At a value of the guest's time-stamp counter.
    Tsc(u64),
}

impl Deadline {
    /// Whether it has come.
    pub const fn is_due(self, now: &Now) -> bool {
        match self {
            Self::Time(time) => now.time.0 >= time.0,
            Self::Tsc(tsc) => now.tsc >= tsc,
        }
    }
}

/// LVT timer register, bits 18:17.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    OneShot,
    Periodic,
    TscDeadline,
    /// Nothing counts.
    Reserved,
}

impl Mode {
    pub(super) const fn from_lvt(lvt: u32) -> Self {
        match lvt >> 17 & 3 {
            0 => Self::OneShot,
            1 => Self::Periodic,
            2 => Self::TscDeadline,
            _ => Self::Reserved,
        }
    }

    const fn counts(self) -> bool {
        matches!(self, Self::OneShot | Self::Periodic)
    }
}

/// It counts down from `left` since `since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    since: Time,
    left: u32,
}

#[derive(Debug)]
pub(super) struct Timer {
    mode: Mode,
    /// The divide configuration register.
    divide: u32,
    initial: u32,
    run: Option<Run>,
    /// A periodic one is not due before.
    quiet_until: Time,
    /// The MSR; 0 is not armed.
    tsc_deadline: u64,
}

impl Timer {
    pub(super) const fn new() -> Self {
        Self {
            mode: Mode::OneShot,
            divide: 0,
            initial: 0,
            run: None,
            quiet_until: Time(0),
            tsc_deadline: 0,
        }
    }

    /// The divide configuration register.
    pub(super) const fn divide(&self) -> u32 {
        self.divide
    }
    /// The initial count register.
    pub(super) const fn initial(&self) -> u32 {
        self.initial
    }
    /// The MSR TSC_DEADLINE.
    pub(super) const fn tsc_deadline(&self) -> u64 {
        self.tsc_deadline
    }

    /// Nanoseconds of a count: bits 3, 1 and 0 are the power of two, less one, with 7 for none.
    const fn cycle(&self) -> u64 {
        let field = self.divide >> 1 & 4 | self.divide & 3;
        BUS_CYCLE_NS << ((field + 1) & 7)
    }

    fn expiry(&self) -> Option<Time> {
        let run = self.run?;
        let due = run
            .since
            .0
            .saturating_add(u64::from(run.left) * self.cycle());
        Some(Time(match self.mode {
            Mode::Periodic => due.max(self.quiet_until.0),
            _ => due,
        }))
    }

    /// When it is due next.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        match self.mode {
            Mode::OneShot | Mode::Periodic => self.expiry().map(Deadline::Time),
            Mode::TscDeadline if self.tsc_deadline != 0 => Some(Deadline::Tsc(self.tsc_deadline)),
            Mode::TscDeadline | Mode::Reserved => None,
        }
    }

    /// Takes note of the time. True if the timer was due, which it is not any more.
    pub(super) fn expire(&mut self, now: &Now) -> bool {
        if !self.deadline().is_some_and(|deadline| deadline.is_due(now)) {
            return false;
        }
        self.tsc_deadline = 0;
        if self.mode == Mode::Periodic {
            // Counting goes on from where the current period began.
            self.restart(self.count(now.time), now.time);
            self.quiet_until = Time(now.time.0.saturating_add(SHORTEST_PERIOD_NS));
        } else {
            self.run = None;
        }
        true
    }

    /// Has it count down from `count`, the present one; a fraction of the current cycle that has passed stays passed.
    fn restart(&mut self, count: u32, now: Time) {
        let fraction = self
            .run
            .map_or(0, |run| now.0.saturating_sub(run.since.0) % self.cycle());
        self.run = (count != 0).then_some(Run {
            since: Time(now.0.saturating_sub(fraction)),
            left: count,
        });
    }

    /// The current count register.
    pub(super) fn count(&self, now: Time) -> u32 {
        let (Some(run), true) = (self.run, self.mode.counts()) else {
            return 0;
        };
        let passed = now.0.saturating_sub(run.since.0) / self.cycle();
        let left = u64::from(run.left);
        let left = match passed.checked_sub(left) {
            None => left - passed,
            Some(over) if self.mode == Mode::Periodic => {
                let initial = u64::from(self.initial.max(1));
                initial - over % initial
            }
            Some(_) => 0,
        };
        left as u32
    }

    /// A write to the initial count register: it starts the timer, or stops it if 0.
    pub(super) fn set_initial(&mut self, initial: u32, now: Time) {
        if self.mode == Mode::TscDeadline {
            return;
        }
        self.initial = initial;
        self.quiet_until = Time(0);
        self.run = (initial != 0).then_some(Run {
            since: now,
            left: initial,
        });
    }

    /// A write to the divide configuration register: counting goes on at the new rate.
    pub(super) fn set_divide(&mut self, divide: u32, now: Time) {
        let divide = divide & 0xb;
        if divide != self.divide {
            let left = self.count(now);
            self.divide = divide;
            self.run = (left != 0).then_some(Run { since: now, left });
        }
    }

    /// The LVT register was written. Going into TSC-deadline mode, or out of it, disarms the timer.
    pub(super) fn set_mode(&mut self, mode: Mode, now: Time) {
        if mode == self.mode {
            return;
        }
        let left = self.count(now);
        if self.mode.counts() && mode.counts() {
            self.restart(left, now);
        } else {
            self.run = None;
            self.initial = 0;
            self.tsc_deadline = 0;
        }
        self.quiet_until = Time(0);
        self.mode = mode;
    }

    /// A write to TSC_DEADLINE; without effect in other modes.
    pub(super) fn set_tsc_deadline(&mut self, deadline: u64) {
        if self.mode == Mode::TscDeadline {
            self.tsc_deadline = deadline;
        }
    }

    /// Restores what was saved: the mode is set already.
    pub(super) fn restore(&mut self, saved: &super::Saved, now: Time) {
        self.divide = saved.timer_divide & 0xb;
        self.initial = saved.timer_initial;
        self.tsc_deadline = match self.mode {
            Mode::TscDeadline => saved.tsc_deadline,
            _ => 0,
        };
        let left = saved.timer_count.min(saved.timer_initial);
        self.run = (left != 0 && self.mode.counts()).then_some(Run { since: now, left });
        self.quiet_until = Time(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(time: u64) -> Now {
        Now {
            time: Time(time),
            tsc: time * 3,
        }
    }

    #[test]
    fn dividers_are_those_of_the_manual() {
        // Intel SDM volume 3, figure "Divide Configuration Register".
        let table = [
            (0, 2),
            (1, 4),
            (2, 8),
            (3, 16),
            (8, 32),
            (9, 64),
            (10, 128),
            (11, 1),
        ];
        for (register, divisor) in table {
            let mut timer = Timer::new();
            timer.set_divide(register, Time(0));
            assert_eq!(timer.cycle(), divisor * BUS_CYCLE_NS);
            assert_eq!(timer.divide(), register);
        }
    }

    #[test]
    fn one_shot() {
        let mut timer = Timer::new();
        timer.set_divide(0xb, Time(0));
        timer.set_initial(5, Time(1000));
        assert_eq!(timer.deadline(), Some(Deadline::Time(Time(1050))));
        assert_eq!(
            [1000, 1009, 1010, 1049].map(|t| timer.count(Time(t))),
            [5, 5, 4, 1]
        );
        assert!(!timer.expire(&at(1049)));
        assert!(timer.expire(&at(1050)));
        assert!(!timer.expire(&at(2000)));
        assert_eq!((timer.count(Time(2000)), timer.initial()), (0, 5));
        // It does not start again by being made periodic.
        timer.set_mode(Mode::Periodic, Time(2000));
        assert_eq!(timer.deadline(), None);
        timer.set_initial(5, Time(1000));
        timer.set_initial(0, Time(1001));
        assert_eq!(timer.deadline(), None);
    }

    #[test]
    fn periods_keep_their_phase() {
        let mut timer = Timer::new();
        timer.set_mode(Mode::Periodic, Time(0));
        timer.set_divide(0xb, Time(0));
        timer.set_initial(100_000, Time(0));
        assert!(timer.expire(&at(1_000_300)));
        assert_eq!(timer.deadline(), Some(Deadline::Time(Time(2_000_000))));
        // Periods that were missed interrupt once.
        assert!(timer.expire(&at(5_000_001)));
        assert_eq!(timer.deadline(), Some(Deadline::Time(Time(6_000_000))));
        assert_eq!(timer.count(Time(5_500_000)), 50_000);
        // Short ones do not flood anyone.
        timer.set_initial(1, Time(6_000_000));
        assert!(timer.expire(&at(6_000_010)));
        assert_eq!(timer.deadline(), Some(Deadline::Time(Time(6_100_010))));
    }

    #[test]
    fn tsc_deadline() {
        let mut timer = Timer::new();
        timer.set_tsc_deadline(7);
        assert_eq!(timer.tsc_deadline(), 0);
        timer.set_initial(100, Time(0));
        timer.set_mode(Mode::TscDeadline, Time(0));
        assert_eq!((timer.deadline(), timer.count(Time(0))), (None, 0));
        timer.set_initial(100, Time(0));
        assert_eq!(timer.deadline(), None);
        timer.set_tsc_deadline(300);
        assert_eq!(timer.deadline(), Some(Deadline::Tsc(300)));
        assert!(!timer.expire(&at(99)));
        assert!(timer.expire(&at(100)));
        assert_eq!((timer.tsc_deadline(), timer.deadline()), (0, None));
        timer.set_tsc_deadline(300);
        timer.set_mode(Mode::OneShot, Time(0));
        assert_eq!((timer.tsc_deadline(), timer.deadline()), (0, None));
    }

    proptest! {
        // The count falls, the deadline is where it reaches 0, and changes on the way move neither backwards.
        #[test]
        fn counting_is_monotonic(initial in 1u32.., divide in 0u32..16, mut steps: Vec<u64>, periodic: bool) {
            let mut timer = Timer::new();
            timer.set_divide(divide, Time(0));
            timer.set_initial(initial, Time(7));
            let Some(Deadline::Time(due)) = timer.deadline() else { panic!() };
            for step in &mut steps {
                *step %= due.0;
            }
            steps.sort_unstable();
            let mut last = initial;
            for time in steps {
                let count = timer.count(Time(time));
                prop_assert!(count <= last && count > 0);
                last = count;
                // Modes that count can be exchanged without losing a fraction.
                timer.set_mode(if periodic { Mode::Periodic } else { Mode::OneShot }, Time(time));
                prop_assert_eq!(timer.count(Time(time)), count);
                prop_assert_eq!(timer.deadline(), Some(Deadline::Time(due)));
                prop_assert!(!timer.expire(&at(time)));
            }
            prop_assert_eq!(timer.count(Time(due.0 - 1)), 1);
            let end = Now { time: due, tsc: 0 };
            prop_assert!(timer.expire(&end));
        }

        // A periodic timer is due again and again, always in the future, and counts as if nobody had looked.
        #[test]
        fn periods_do_not_drift(initial in 1u32.., divide in 0u32..16, steps: Vec<u32>) {
            let mut timer = Timer::new();
            timer.set_mode(Mode::Periodic, Time(0));
            timer.set_divide(divide, Time(0));
            timer.set_initial(initial, Time(0));
            let cycle = timer.cycle();
            let mut now = 0u64;
            for step in steps {
                now += u64::from(step);
                let fired = timer.expire(&at(now));
                let Some(Deadline::Time(due)) = timer.deadline() else { panic!() };
                prop_assert!(due.0 > now);
                prop_assert!(!fired || due.0 >= now + SHORTEST_PERIOD_NS.min(cycle));
                let initial = u64::from(initial);
                prop_assert_eq!(u64::from(timer.count(Time(now))), initial - now / cycle % initial);
            }
        }
    }
}
