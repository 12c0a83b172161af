//! Address-space identifiers: which translations in a CPU belong to which vCPU.
//!
//! An ASID is one vCPU's on one CPU for as long as a *generation* of that CPU lasts. Two vCPUs of a domain never share
//! one: each expects a TLB of its own, and may have other tables at the same CR3 or PCID. A vCPU that comes
//! from another CPU, or has to forget its translations, just takes the next number; when a CPU's numbers
//! run out, it drops all translations once and starts a new generation.

/// A CPU's supply of numbers.
#[derive(Debug)]
pub struct Pool {
    generation: u64,
    next: u32,
    /// One past the last number.
    end: u32,
}

/// A vCPU's number, and where it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asid {
    /// The number; 0 is the host's and stands for none.
    pub number: u32,
    generation: u64,
    cpu: u32,
}

/// What has to be done with a number that was just asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assigned {
    /// It is the one the vCPU had.
    Same,
    /// It is a new one, of which this CPU holds no translations.
    New,
    /// It is a new one, and all translations in this CPU have to be dropped first.
    FlushAll,
}

impl Pool {
    /// A pool of numbers 1 to `count` - 1 that were never used; `count` is at least 2.
    pub const fn new(count: u32) -> Self {
        Self {
            generation: 1,
            // Nothing is known of what the CPU holds: the first use starts with a flush.
            next: count,
            end: count,
        }
    }

    /// Sees to it that `asid` is good on this CPU, which has number `cpu`.
    pub fn assign(&mut self, cpu: u32, asid: &mut Asid) -> Assigned {
        if asid.number != 0 && asid.cpu == cpu && asid.generation == self.generation {
            return Assigned::Same;
        }
        let wrapped = self.next >= self.end;
        if wrapped {
            self.generation += 1;
            self.next = 1;
        }
        *asid = Asid {
            number: self.next,
            generation: self.generation,
            cpu,
        };
        self.next += 1;
        if wrapped {
            Assigned::FlushAll
        } else {
            Assigned::New
        }
    }
}

impl Asid {
    /// Gives the number up: the next use gets another one, and with it no translations.
    pub fn forget(&mut self) {
        self.number = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn numbers_run_from_1_and_start_again() {
        let mut pool = Pool::new(3);
        let (mut a, mut b, mut c) = Default::default();
        assert_eq!(pool.assign(0, &mut a), Assigned::FlushAll);
        assert_eq!(pool.assign(0, &mut b), Assigned::New);
        assert_eq!((a.number, b.number), (1, 2));
        assert_eq!(pool.assign(0, &mut a), Assigned::Same);
        assert_eq!(pool.assign(0, &mut c), Assigned::FlushAll);
        // The others' numbers are of the generation before.
        assert_eq!(pool.assign(0, &mut a), Assigned::New);
        assert_eq!((c.number, a.number), (1, 2));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Run { cpu: u32, vcpu: usize },
        Forget { vcpu: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u32..3, 0usize..5).prop_map(|(cpu, vcpu)| Step::Run { cpu, vcpu }),
            1 => (0usize..5).prop_map(|vcpu| Step::Forget { vcpu }),
        ]
    }

    proptest! {
        // A model of each CPU's TLB: which vCPU's translations, of which life of it, lie under a number. No vCPU ever finds
        // those of another, or its own from before it moved or was told to forget.
        #[test]
        fn nobody_finds_stale_translations(count in 2u32..6, steps in prop::collection::vec(step(), 0..200)) {
            let mut pools: Vec<Pool> = (0..3).map(|_| Pool::new(count)).collect();
            let mut asids = [Asid::default(); 5];
            let mut lives = [0u32; 5];
            let mut last = [None; 5];
            let mut tlbs: Vec<HashMap<u32, HashSet<(usize, u32)>>> = vec![HashMap::new(); 3];
            // Something unknown lies under each number at first.
            for tlb in &mut tlbs {
                for n in 1..count {
                    tlb.entry(n).or_default().insert((99, 0));
                }
            }
            for step in steps {
                match step {
                    Step::Forget { vcpu } => {
                        asids[vcpu].forget();
                        lives[vcpu] += 1;
                    }
                    Step::Run { cpu, vcpu } => {
                        if last[vcpu].replace(cpu).is_some_and(|before| before != cpu) {
                            lives[vcpu] += 1;
                        }
                        let tlb = &mut tlbs[cpu as usize];
                        match pools[cpu as usize].assign(cpu, &mut asids[vcpu]) {
                            Assigned::FlushAll => tlb.clear(),
                            Assigned::Same | Assigned::New => {}
                        }
                        let number = asids[vcpu].number;
                        prop_assert!((1..count).contains(&number));
                        let found = tlb.entry(number).or_default();
                        prop_assert!(found.iter().all(|f| *f == (vcpu, lives[vcpu])), "{:?}", found);
                        found.insert((vcpu, lives[vcpu]));
                    }
                }
            }
        }
    }
}
