//! Weights made exact: apportionment over slots, and the table that a cursor walks.
//!
//! It knows nothing of where the cursor lives: the kernel keeps one per table, the proxy one per rule.

/// Slots of a table whose reduced weights would need more than this are apportioned over exactly this many.
pub const MAX_SLOTS: usize = 1024;

/// A slot table: position → index of the weighted target. Equal shares for equal weights, exactly.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SlotTable(Box<[u16]>);

impl SlotTable {
    /// Builds the table for `weights`; it is empty when every weight is zero. Weights after the first [`MAX_SLOTS`]
    /// get no slot.
    pub fn new(weights: &[u32]) -> Self {
        let weights = &weights[..weights.len().min(MAX_SLOTS)];
        Self(interleave(&apportion(weights)))
    }

    /// The target whose turn it is at `cursor`; `None` when every weight is zero.
    pub fn pick(&self, cursor: u64) -> Option<usize> {
        let len = self.0.len() as u64;
        if len == 0 {
            None
        } else {
            Some(usize::from(self.0[(cursor % len) as usize]))
        }
    }

    /// The slots in order.
    pub fn slots(&self) -> &[u16] {
        &self.0
    }
}

/// Slots that each of at most [`MAX_SLOTS`] weights gets.
///
/// The weights are divided by their greatest common divisor; when their sum then fits in [`MAX_SLOTS`] the
/// shares are exact. Otherwise [`MAX_SLOTS`] slots are apportioned by largest remainder (ties to the earlier
/// weight), and a weight above zero keeps at least one slot. A weight of zero gets none.
pub fn apportion(weights: &[u32]) -> Vec<u32> {
    let divisor = weights.iter().fold(0, |a, &b| gcd(a, b));
    if divisor == 0 {
        return vec![0; weights.len()];
    }
    let reduced: u64 = weights.iter().map(|&w| u64::from(w / divisor)).sum();
    if reduced <= MAX_SLOTS as u64 {
        return weights.iter().map(|&w| w / divisor).collect();
    }
    by_largest_remainder(weights)
}

fn by_largest_remainder(weights: &[u32]) -> Vec<u32> {
    let total: i128 = weights.iter().map(|&w| i128::from(w)).sum();
    let slots = MAX_SLOTS as i128;
    let mut shares: Vec<u32> = weights
        .iter()
        .map(|&w| {
            if w == 0 {
                0
            } else {
                ((i128::from(w) * slots / total) as u32).max(1)
            }
        })
        .collect();
    let mut missing = slots - shares.iter().map(|&s| i128::from(s)).sum::<i128>();
    // How far a share is below its exact value, in units of 1/total slot.
    let shortfall = |i: usize, share: u32| i128::from(weights[i]) * slots - i128::from(share) * total;
    while missing != 0 {
        let step = missing.signum();
        let candidates =
            (0..weights.len()).filter(|&i| if step > 0 { weights[i] > 0 } else { shares[i] > 1 });
        // `max_by_key` keeps the last of equals; reversing makes that the earliest.
        let Some(chosen) = candidates.rev().max_by_key(|&i| step * shortfall(i, shares[i])) else {
            break;
        };
        shares[chosen] = shares[chosen].saturating_add_signed(step as i32);
        missing -= step;
    }
    shares
}

/// Spreads the shares evenly: at every step the target that is furthest behind its share comes next (smooth
/// weighted round robin), ties to the earlier one.
fn interleave(shares: &[u32]) -> Box<[u16]> {
    let total: u32 = shares.iter().sum();
    let mut credit = vec![0_i64; shares.len()];
    let next = || {
        let mut chosen = 0;
        for (i, &share) in shares.iter().enumerate() {
            credit[i] += i64::from(share);
            if credit[i] > credit[chosen] {
                chosen = i;
            }
        }
        credit[chosen] -= i64::from(total);
        chosen as u16
    };
    std::iter::repeat_with(next).take(total as usize).collect()
}

const fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_reduced() {
        assert_eq!(SlotTable::new(&[25, 75]).slots().len(), 4);
        assert_eq!(SlotTable::new(&[33, 33, 34]).slots().len(), 100);
        assert_eq!(SlotTable::new(&[0, 100]).slots(), [1]);
    }

    #[test]
    fn zeros_get_nothing() {
        assert_eq!(SlotTable::new(&[0, 0]).pick(7), None);
        assert_eq!(SlotTable::new(&[]).pick(0), None);
        assert!(!SlotTable::new(&[0, 1, 999]).slots().contains(&0));
    }

    #[test]
    fn slots_are_spread() {
        assert_eq!(SlotTable::new(&[1, 1]).slots(), [0, 1]);
        assert_eq!(SlotTable::new(&[1, 3]).slots(), [1, 0, 1, 1]);
    }

    #[test]
    fn remainders_go_to_the_largest_first() {
        assert_eq!(apportion(&[1_000_003, 1_000_003, 1]), [512, 511, 1]);
    }

    #[test]
    fn more_targets_than_slots_still_fit() {
        let table = SlotTable::new(&vec![1; 70_000]);
        assert_eq!(table.slots().len(), MAX_SLOTS);
        assert_eq!(table.slots().last(), Some(&(MAX_SLOTS as u16 - 1)));
        assert_eq!(SlotTable::new(&[u32::MAX; MAX_SLOTS]).slots().len(), MAX_SLOTS);
    }

    proptest::proptest! {
        #[test]
        fn shares_are_within_one_slot_of_exact(weights in proptest::collection::vec(0_u32..100_000, 1..8)) {
            let shares = apportion(&weights);
            let slots: u64 = shares.iter().map(|&s| u64::from(s)).sum();
            let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
            proptest::prop_assert!(slots <= MAX_SLOTS as u64);
            proptest::prop_assert_eq!(slots == 0, total == 0);
            for (&weight, &share) in weights.iter().zip(&shares) {
                proptest::prop_assert_eq!(weight == 0, share == 0);
                let exact = f64::from(weight) * slots as f64 / total.max(1) as f64;
                // Small weights that keep a slot of their own take it from larger ones: one slot per weight.
                proptest::prop_assert!((f64::from(share) - exact).abs() <= weights.len() as f64);
            }
        }

        #[test]
        fn every_window_of_the_table_is_exact(weights in proptest::collection::vec(0_u32..50, 1..6), start in 0_u64..1000) {
            let table = SlotTable::new(&weights);
            let len = table.slots().len() as u64;
            let shares = apportion(&weights);
            for (i, &share) in shares.iter().enumerate() {
                let count = (start..start + len).filter(|&n| table.pick(n) == Some(i)).count();
                proptest::prop_assert_eq!(count as u32, share);
            }
        }
    }
}
