//! Taking times without disturbing what is timed: only of some records, and without a page that is touched for the first
//! time.

use hdrhistogram::Histogram;

use crate::bench::plan::Plan;

/// Latencies of one record in so many.
#[derive(Debug)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
    /// The next record whose time is taken.
    pub(crate) next: u64,
    stride: u64,
}

/// An hour. What takes longer counts as this.
const LONGEST: u64 = 3_600_000_000_000;

/// A histogram of nanoseconds, with three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("sound bounds")
}

impl Latencies {
    pub(crate) fn new(plan: &Plan) -> Latencies {
        let mut histogram = histogram();
        // Writes to all of its pages, so that no measurement waits for one.
        histogram.reset();
        Latencies { histogram, next: 0, stride: plan.stride }
    }

    #[inline]
    pub(crate) fn take(&mut self, nanos: u64, counts: bool) {
        self.next += self.stride;
        if counts {
            self.histogram.saturating_record(nanos);
        }
    }

    pub(crate) fn counts(&self) -> Vec<(u64, u64)> {
        self.histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }
}

/// When some records were sent or received. Writer and reader choose the same ones, without a word about it.
#[derive(Debug)]
pub(crate) struct Stamps {
    pub(crate) taken: Vec<(u64, u64)>,
    /// The next record whose time is taken.
    pub(crate) next: u64,
    stride: u64,
}

/// So many at the most; then every other one is given up.
const STAMPS: usize = 1 << 18;

impl Stamps {
    pub(crate) fn new(plan: &Plan) -> Stamps {
        // The pages are touched now.
        let mut taken = vec![(1, 1); STAMPS];
        taken.clear();
        Stamps { taken, next: 0, stride: plan.stride }
    }

    #[inline]
    pub(crate) fn take(&mut self, time: u64) {
        self.taken.push((self.next, time));
        self.next += self.stride;
        if self.taken.len() == STAMPS {
            self.thin();
        }
    }

    #[cold]
    fn thin(&mut self) {
        self.stride *= 2;
        let stride = self.stride;
        self.taken.retain(|(sequence, _)| sequence.is_multiple_of(stride));
        self.next = self.next.next_multiple_of(stride);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan::small;

    #[test]
    fn both_sides_take_the_same_records() {
        let plan = Plan { stride: 3, ..small(8, 1, 4096) };
        let (mut a, mut b) = (Stamps::new(&plan), Stamps::new(&plan));
        for sequence in 0..3 * STAMPS as u64 * 5 {
            for stamps in [&mut a, &mut b] {
                if sequence == stamps.next {
                    stamps.take(sequence);
                }
            }
        }
        assert_eq!(a.taken, b.taken);
        assert!(a.taken.len() < STAMPS && a.taken.len() >= STAMPS / 2);
        assert!(a.taken.windows(2).all(|two| two[1].0 - two[0].0 == a.stride));
    }
}
