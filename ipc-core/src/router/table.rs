//! The lanes of a connection: what each costs, and the longest message it takes.
//!
//! Promise: the cheapest lane of those that take a length, and how far a lane stays good enough. Refusal: it keeps no
//! memory of what was chosen before; the router does.

use super::Lane;
use super::bands::Bands;
use super::choice::Override;
use super::cost::Model;
use super::crossover::reach;
use core::fmt;

/// Lengths from one to another, both included, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: u64,
    pub(super) upto: u64,
}

impl Range {
    #[inline]
    pub(super) const fn contains(self, len: u64) -> bool {
        self.from <= len && len <= self.upto
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    model: Model,
    limit: u64,
}

/// A table of lanes: for each that there is, its whole cost and the longest message it takes.
///
/// # Examples
///
/// ```
/// use ipc_core::router::{Cost, Costs, Lane, Model};
///
/// let costs = Costs::new()
///     .with(Lane::Inline, Model::line(Cost::new(100.0, 0.1)?), 16 << 10)
///     .with(Lane::Arena, Model::line(Cost::new(600.0, 0.05)?), 64 << 20);
/// assert_eq!(costs.best(64), Some(Lane::Inline));
/// assert_eq!(costs.best(12_000), Some(Lane::Arena));
/// assert_eq!(costs.best(65 << 20), None);
/// assert_eq!(costs.to_string(), "inline up to 10000 B, then arena up to 67108864 B");
/// # Ok::<(), ipc_core::router::CostError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Costs {
    /// By [`Lane::index`]; nothing where the connection has no such lane.
    lanes: [Option<Entry>; Lane::COUNT],
}

impl Costs {
    /// A table without a lane.
    #[must_use]
    pub const fn new() -> Self {
        Self { lanes: [None; Lane::COUNT] }
    }

    /// The table with `lane` in it, in place of what it said of that lane before. `limit` is the longest message the lane
    /// takes, in bytes: `u64::MAX` if it takes every one.
    #[must_use]
    pub const fn with(mut self, lane: Lane, model: Model, limit: u64) -> Self {
        self.lanes[lane.index()] = Some(Entry { model, limit });
        self
    }

    /// The table without `lane`.
    #[must_use]
    pub const fn without(mut self, lane: Lane) -> Self {
        self.lanes[lane.index()] = None;
        self
    }

    /// What a lane costs; nothing if it is not in the table.
    #[must_use]
    pub fn model(&self, lane: Lane) -> Option<Model> {
        self.lanes[lane.index()].map(|entry| entry.model)
    }

    /// The longest message a lane takes, in bytes; nothing if it is not in the table.
    #[must_use]
    pub fn limit(&self, lane: Lane) -> Option<u64> {
        self.lanes[lane.index()].map(|entry| entry.limit)
    }

    /// The longest message that some lane takes, in bytes; nothing while the table is empty.
    #[must_use]
    pub fn largest(&self) -> Option<u64> {
        self.lanes.iter().flatten().map(|entry| entry.limit).max()
    }

    /// What a message of `len` bytes costs on `lane`, in ns; nothing if the lane does not take it.
    #[inline]
    #[must_use]
    pub fn at(&self, lane: Lane, len: u64) -> Option<f64> {
        self.taking(lane, len).map(|model| model.at(len))
    }

    /// The lane on which a message of `len` bytes costs least; of several, the first in the order of [`Lane`]. Nothing if no
    /// lane takes it.
    #[inline]
    #[must_use]
    pub fn best(&self, len: u64) -> Option<Lane> {
        self.cheapest(len, |_| true).map(|(lane, _)| lane)
    }

    /// The lanes that are best, from short messages to long ones, each with the lengths it is best for.
    #[must_use]
    pub fn bands(&self) -> Bands<'_> {
        Bands::new(self, Override::Auto)
    }

    /// The model of a lane, if it takes messages of `len` bytes.
    #[inline]
    fn taking(&self, lane: Lane, len: u64) -> Option<&Model> {
        self.lanes[lane.index()].as_ref().filter(|entry| len <= entry.limit).map(|entry| &entry.model)
    }

    /// The cheapest lane for `len` bytes among those that `admits` lets in by their cost of a byte at that length, and
    /// its cost in ns.
    #[inline]
    fn cheapest(&self, len: u64, admits: impl Fn(f64) -> bool) -> Option<(Lane, f64)> {
        let mut cheapest = None;
        for lane in Lane::ALL {
            let Some(model) = self.taking(lane, len).filter(|model| admits(model.per_byte_at(len))) else { continue };
            let cost = model.at(len);
            if cheapest.is_none_or(|(_, least)| cost < least) {
                cheapest = Some((lane, cost));
            }
        }
        cheapest
    }

    /// The lane for `len` bytes: `last`, if it is dearer than the best by a factor of `slack` at most, or else the best.
    #[inline]
    pub(super) fn choose(&self, len: u64, last: Option<Lane>, slack: f64) -> Option<Lane> {
        let (best, least) = self.cheapest(len, |_| true)?;
        let good = |last: &Lane| self.at(*last, len).is_some_and(|cost| cost <= slack * least);
        Some(last.filter(good).unwrap_or(best))
    }

    /// The first lane of `order` that takes `len` bytes.
    #[inline]
    pub(super) fn first_of(&self, order: &[Lane], len: u64) -> Option<Lane> {
        order.iter().copied().find(|&lane| self.taking(lane, len).is_some())
    }

    /// The lengths around `len` between which no lane bends and none ends.
    pub(super) fn piece(&self, len: u64) -> Range {
        let mut piece = Range { from: 0, upto: u64::MAX };
        let mut cut = |from: u64, upto: u64| {
            piece.from = piece.from.max(from);
            piece.upto = piece.upto.min(upto);
        };
        for entry in self.lanes.iter().flatten() {
            let (from, upto) = entry.model.piece(len);
            cut(from, upto);
            if len <= entry.limit { cut(0, entry.limit) } else { cut(entry.limit + 1, u64::MAX) }
        }
        piece
    }

    /// The lengths around `len` at which `lane`, which is good enough there, is dearer than no other by more than
    /// a factor of `slack`.
    pub(super) fn stay(&self, lane: Lane, len: u64, slack: f64) -> Range {
        // Rounding must not take away the length that the lane was chosen for.
        let within = self.kept(lane, len, slack).unwrap_or(Range { from: len, upto: len });
        let mut range = Range { from: within.from.min(len), upto: within.upto.max(len) };
        while let Some(next) = range.upto.checked_add(1)
            && let Some(more) = self.kept(lane, next, slack)
            && more.from == next
        {
            range.upto = more.upto;
        }
        while let Some(next) = range.from.checked_sub(1)
            && let Some(more) = self.kept(lane, next, slack)
            && more.upto == next
        {
            range.from = more.from;
        }
        range
    }

    /// The lengths within the piece around `len` at which `lane` is dearer than no other by more than a factor of `slack`. All
    /// costs are lines there, so these lengths are a range, if there are any.
    fn kept(&self, lane: Lane, len: u64, slack: f64) -> Option<Range> {
        let ours = self.taking(lane, len)?;
        let piece = self.piece(len);
        let mut kept = piece;
        // Leads are taken where the piece begins: what rounds off there is small beside every cost in it.
        let (start, room) = (piece.from, piece.upto - piece.from);
        for theirs in Lane::ALL.into_iter().filter(|rival| *rival != lane).filter_map(|rival| self.taking(rival, len)) {
            let lead = |len| slack * theirs.at(len) - ours.at(len);
            let per_byte = slack * theirs.per_byte_at(len) - ours.per_byte_at(len);
            if let Some(bytes) = reach(lead(start), per_byte, room) {
                kept.upto = kept.upto.min(start + bytes);
            } else {
                // The others' lead lasts so far, the tie included, which is ours.
                let end = start + reach(-lead(start), -per_byte, room)?;
                let from = if lead(end) >= 0.0 { end } else { end.checked_add(1)? };
                kept.from = kept.from.max(from);
            }
        }
        (kept.from <= kept.upto).then_some(kept)
    }

    /// The longest length up to which `lane`, from empty messages on, is best, and every other lane dearer by more than a
    /// factor of `slack`. Nothing if another one is not so for the empty message.
    pub(super) fn alone_upto(&self, lane: Lane, slack: f64) -> Option<u64> {
        let mut upto = None;
        loop {
            let start = upto.map_or(Some(0), |upto: u64| upto.checked_add(1));
            let Some((start, ours)) = start.and_then(|start| Some((start, self.taking(lane, start)?))) else {
                return upto;
            };
            let piece = self.piece(start);
            let mut room = piece.upto - start;
            for rival in Lane::ALL {
                let Some(theirs) = self.taking(rival, start).filter(|_| rival != lane) else { continue };
                let lead = |len| theirs.at(len) - slack * ours.at(len);
                if lead(start) <= 0.0 {
                    return upto;
                }
                let per_byte = theirs.per_byte_at(start) - slack * ours.per_byte_at(start);
                room = reach(lead(start), per_byte, room).unwrap_or(0);
                // At a tie, the other one is not dearer by more. The lead is positive at the start.
                if room > 0 && lead(start + room) <= 0.0 {
                    room -= 1;
                }
            }
            upto = Some(start + room);
            if start + room < piece.upto {
                return upto;
            }
        }
    }

    /// The band that starts at `from`: the best lane there, how far it is best within the piece, and its cost of a byte if
    /// the piece goes on beyond. Within a piece the costs are lines, so each band has a smaller cost of a byte than the
    /// one before it, `after`; asking for that keeps lines that are equal to rounding from being walked byte by byte.
    pub(super) fn band(&self, from: u64, after: Option<f64>) -> Option<(Lane, u64, Option<f64>)> {
        let flatter = |than: Option<f64>| move |per_byte: f64| than.is_none_or(|than| per_byte < than);
        let (lane, cost) = self.cheapest(from, flatter(after))?;
        let ours = self.taking(lane, from)?.per_byte_at(from);
        let piece = self.piece(from);
        let mut room = piece.upto - from;
        for theirs in Lane::ALL.into_iter().filter_map(|rival| self.taking(rival, from)) {
            if theirs.per_byte_at(from) < ours {
                room = reach(theirs.at(from) - cost, theirs.per_byte_at(from) - ours, room).unwrap_or(0);
            }
        }
        Some((lane, from + room, (from + room < piece.upto).then_some(ours)))
    }
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.bands(), f)
    }
}
