//! How often something is remapped.
//!
//! Promise: what is printed can be read back. Refusal: no promise that a machine reaches a rate.

use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// More would be a period of less than a nanosecond.
const MOST: u32 = 1_000_000_000;

/// Times a second, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rate {
    /// So many times a second; 0 is never.
    PerSecond(u32),
    /// One after the other without a pause.
    Max,
}

impl Rate {
    /// Never.
    pub(super) const NONE: Self = Self::PerSecond(0);

    /// The time from one to the next; `None` for without a pause.
    pub(super) fn period(self) -> Option<Duration> {
        match self {
            Self::PerSecond(0) => Some(Duration::MAX),
            Self::PerSecond(rate) => Some(Duration::from_secs(1) / rate),
            Self::Max => None,
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let (digits, factor) = match text.strip_suffix('k') {
            Some(digits) => (digits, 1000),
            None => (text, 1),
        };
        let number = digits.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
        match number {
            Some(number) if number <= MOST => Ok(Self::PerSecond(number)),
            _ => Err(format!("a rate is a number up to {MOST}, such as 100 or 10k, or max")),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(rate) if *rate > 0 && rate.is_multiple_of(1000) => write!(out, "{}k", rate / 1000),
            Self::PerSecond(rate) => write!(out, "{rate}"),
            Self::Max => out.write_str("max"),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_is_printed_can_be_read_back() {
        for text in ["0", "100", "1k", "50k", "1500", "max"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("1000".parse(), Ok(Rate::PerSecond(1000)));
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in ["", "k", "-1", "1.5", "fast", "5000000k", "2000000000"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_period_is_the_inverse_of_the_rate() {
        assert_eq!(Rate::PerSecond(10_000).period(), Some(Duration::from_micros(100)));
        assert_eq!(Rate::Max.period(), None);
        assert_eq!(Rate::NONE.period(), Some(Duration::MAX));
    }
}
