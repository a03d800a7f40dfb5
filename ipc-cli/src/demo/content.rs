//! What the messages of the demonstration hold: both sides can work it out from the number of the message alone.
//!
//! Promise: messages with different numbers differ in every word, so one that is lost, doubled, swapped, moved or cut is found.
//! Refusal: no secrets and no statistics; the numbers only look random.

/// Odd, and without pattern: the golden ratio's fraction in 64 bits.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The longest message, in bytes, on a connection that takes as much: several times what a ring holds, so that each lane is used.
const LONGEST: u64 = 1 << 20;

/// Bytes in the longest message on a connection that takes up to `most`.
pub(super) fn longest(most: u64) -> usize {
    most.min(LONGEST) as usize
}

/// A number that depends on each bit of `seed` (the finalizer of MurmurHash3).
fn mix(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let seed = (seed ^ (seed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    seed ^ (seed >> 33)
}

/// Length of message `number` among messages of all sizes: 0 to `max` bytes, as many of each order of magnitude. The smallest
/// and the largest come first.
pub(super) fn len(number: u64, max: usize) -> usize {
    match number {
        0 => 0,
        1 => max,
        _ => {
            let random = mix(!number);
            let magnitude = random % u64::from(usize::BITS - max.leading_zeros() + 1);
            let len = (random >> 32) & ((1 << magnitude) - 1);
            max.min(len as usize)
        }
    }
}

/// Words of message `number`.
fn words(number: u64) -> impl Iterator<Item = u64> {
    let first = mix(number.wrapping_add(STEP));
    (0_u64..).map(move |at| first.wrapping_add(at.wrapping_mul(STEP)))
}

/// Writes message `number`.
pub(super) fn fill(number: u64, message: &mut [u8]) {
    let mut words = words(number);
    let (whole, rest) = message.as_chunks_mut::<8>();
    for (place, word) in whole.iter_mut().zip(&mut words) {
        *place = word.to_le_bytes();
    }
    if let Some(word) = words.next() {
        rest.copy_from_slice(&word.to_le_bytes()[..rest.len()]);
    }
}

/// Compares each byte of message `number`.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(super) fn check(number: u64, len: usize, message: &[u8]) -> Result<(), String> {
    if message.len() != len {
        return Err(format!("has {} bytes instead of {len}", message.len()));
    }
    let (whole, rest) = message.as_chunks::<8>();
    // No early end: a loop without branches is several times as fast.
    let mut words = words(number);
    let difference =
        whole.iter().zip(&mut words).fold(0, |sum, (found, word)| sum | (u64::from_le_bytes(*found) ^ word));
    let rest_differs = words.next().is_some_and(|word| rest != &word.to_le_bytes()[..rest.len()]);
    if difference != 0 || rest_differs {
        return Err(format!("of {len} bytes holds others than were sent"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_reach_from_nothing_to_the_largest() {
        let max = 65528;
        let lens: Vec<usize> = (0..10_000).map(|number| len(number, max)).collect();
        assert_eq!(&lens[..2], [0, max]);
        assert!(lens.iter().all(|&len| len <= max));
        for magnitude in 0..16 {
            let range = 1 << magnitude..2 << magnitude;
            assert!(lens.iter().filter(|&len| range.contains(len)).count() > 100, "2^{magnitude}");
        }
    }

    #[test]
    fn each_changed_byte_is_found() {
        for len in [1, 7, 8, 9, 40, 43] {
            let mut message = vec![0; len];
            fill(5, &mut message);
            assert_eq!(check(5, len, &message), Ok(()));
            assert!(check(6, len, &message).is_err());
            assert!(check(5, len + 1, &message).is_err());
            for at in 0..len {
                message[at] ^= 1;
                assert!(check(5, len, &message).is_err(), "byte {at} of {len}");
                message[at] ^= 1;
            }
        }
    }
}
