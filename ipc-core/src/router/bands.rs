//! The lengths that each lane has, for people and tables.
//!
//! Promise: the bands follow one another without a gap and without an overlap, from the empty message to the longest one
//! that some lane takes, neighbours are of different lanes, and there are few of them (each lane at most once between two
//! lengths where a lane bends or ends). Refusal: they show the bare choice, without the memory of a router.

use super::Lane;
use super::choice::Override;
use super::table::Costs;
use core::fmt;

/// The lengths from one to another, both included, that go to one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// The lane.
    pub lane: Lane,
    /// The shortest of its messages, in bytes.
    pub from: u64,
    /// The longest of its messages, in bytes.
    pub upto: u64,
}

/// Iterates over bands, from short messages to long ones. Displayed as a sentence: "inline up to 14336 B, then arena".
#[derive(Clone, Debug)]
pub struct Bands<'a> {
    costs: &'a Costs,
    over: Override,
    /// Where the next band starts; nothing at the end.
    from: Option<u64>,
    /// The cost of a byte in the last band, if no lane bends or ends after it ([`Costs::band`]).
    after: Option<f64>,
}

impl<'a> Bands<'a> {
    pub(super) fn new(costs: &'a Costs, over: Override) -> Self {
        Self { costs, over, from: Some(0), after: None }
    }

    /// A band that the same lane may follow.
    pub(super) fn part(&mut self) -> Option<Band> {
        let from = self.from?;
        let (lane, upto, after) = match self.over.order(from) {
            Some((order, upto)) => {
                let lane = self.costs.first_of(order, from)?;
                (lane, upto.min(self.costs.piece(from).upto), None)
            }
            None => self.costs.band(from, self.after)?,
        };
        let band = Band { lane, from, upto };
        (self.from, self.after) = (band.upto.checked_add(1), after);
        Some(band)
    }
}

impl Iterator for Bands<'_> {
    type Item = Band;

    fn next(&mut self) -> Option<Band> {
        let mut band = self.part()?;
        loop {
            let before = (self.from, self.after);
            match self.part() {
                Some(more) if more.lane == band.lane => band.upto = more.upto,
                _ => {
                    (self.from, self.after) = before;
                    return Some(band);
                }
            }
        }
    }
}

impl fmt::Display for Bands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for band in self.clone() {
            write!(f, "{between}{}", band.lane)?;
            if band.upto < u64::MAX {
                write!(f, " up to {} B", band.upto)?;
            }
            between = ", then ";
        }
        Ok(())
    }
}
