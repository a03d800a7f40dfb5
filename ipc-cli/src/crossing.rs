//! The size at which two lanes cost the same, from measurements of both at several sizes.
//!
//! Near that size the two differ by less than a measurement is exact, so single sizes lie on the wrong side of it. All that is known is that
//! the lead of one lane only grows with the size. The leads are therefore replaced by the nearest that never fall (isotonic regression, by
//! pooling adjacent violators: Barlow, Bartholomew, Bremner, Brunk, "Statistical Inference under Order Restrictions", 1972), and those
//! cross zero once.
//!
//! Promise: no line or other model of costs is assumed. Refusal: what is measured, and how a lead follows from it, is the caller's.

/// Sizes whose leads contradicted each other, with what they have in common.
#[derive(Clone, Copy)]
struct Pool {
    /// The mean of the logarithms of the sizes, and of the leads.
    size: f64,
    lead: f64,
    /// Sizes in it.
    count: f64,
}

impl Pool {
    fn with(self, other: Self) -> Self {
        let count = self.count + other.count;
        let mean = |a: f64, b: f64| (a * self.count + b * other.count) / count;
        Self { size: mean(self.size, other.size), lead: mean(self.lead, other.lead), count }
    }
}

/// The size, bytes, from which on the lead is above 0. `leads` are sizes, rising and above 0, and the logarithm of what the lane for small
/// messages costs over what the one for large ones does: below 0 as long as the former is cheaper. `None` if that never changes.
pub(crate) fn crossing(leads: &[(u64, f64)]) -> Option<f64> {
    let mut pools: Vec<Pool> = Vec::new();
    for &(size, lead) in leads {
        let mut pool = Pool { size: (size as f64).ln(), lead, count: 1.0 };
        while let Some(before) = pools.pop_if(|before| before.lead >= pool.lead) {
            pool = before.with(pool);
        }
        pools.push(pool);
    }
    let [below, above] = *pools.windows(2).find(|pair| pair[0].lead <= 0.0 && pair[1].lead > 0.0)? else { return None };
    let part = -below.lead / (above.lead - below.lead);
    Some((below.size + part * (above.size - below.size)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ratios at sizes from 1 KiB on, each twice the one before.
    fn of(ratios: &[f64]) -> Option<f64> {
        let leads: Vec<(u64, f64)> = ratios.iter().enumerate().map(|(at, ratio)| (1024 << at, ratio.ln())).collect();
        crossing(&leads)
    }

    #[test]
    fn a_crossing_lies_between_its_neighbours() {
        let at = of(&[0.5, 0.8, 1.25, 2.0]).unwrap();
        assert!((at - 2048.0 * 2_f64.sqrt()).abs() < 1e-6, "{at}");
        let at = of(&[0.5, 1.0, 2.0]).unwrap();
        assert!((at - 2048.0).abs() < 1e-6, "{at}");
    }

    #[test]
    fn a_size_on_the_wrong_side_does_not_make_a_crossing_of_its_own() {
        // 1.02 and 0.97 are one pool below 1, at 4 KiB · √2.
        let one = of(&[0.5, 0.8, 1.02, 0.97, 1.25, 2.0]).unwrap();
        assert!((5793.0..16384.0).contains(&one), "{one}");
        // So are 1.1, 0.6 and 0.8, at 4 KiB; ln(1 / (1.1 · 0.6 · 0.8)^(1/3)) = 0.2129 of 0.2129 + ln(1.25) lie between it and 16 KiB.
        let wild = of(&[0.5, 1.1, 0.6, 0.8, 1.25, 2.0]).unwrap();
        assert!((wild - 4096.0 * 4_f64.powf(0.2129 / (0.2129 + 0.2231))).abs() < 10.0, "{wild}");
        let early = of(&[1.01, 0.98, 0.97, 0.99, 1.25, 2.0]).unwrap();
        assert!((2048.0..16384.0).contains(&early), "{early}");
        let late = of(&[0.8, 0.9, 1.1, 1.3, 0.999, 2.0]).unwrap();
        assert!((1024.0..8192.0).contains(&late), "{late}");
    }

    #[test]
    fn a_lane_that_is_cheaper_everywhere_has_no_crossing() {
        assert_eq!(of(&[0.5, 0.6, 0.7]), None);
        assert_eq!(of(&[1.5, 1.6, 1.7]), None);
        assert_eq!(of(&[2.0, 0.25]), None);
        assert_eq!(of(&[]), None);
    }
}
