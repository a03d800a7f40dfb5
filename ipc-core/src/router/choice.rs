//! The choice of a lane, message by message.
//!
//! Promise: the lane that was used last is kept until another one is cheaper by more than the bias; what the user fixed is
//! obeyed to the byte; while lengths stay in the range of the lane used last, a choice is one comparison. Refusal:
//! it does not send, and it does not learn; new costs are handed in.

use super::Lane;
use super::bands::Bands;
use super::table::{Costs, Range};
use core::fmt;

/// How much cheaper another lane must be before a router leaves the one it used last, unless told otherwise: 3 %, as a
/// fraction.
pub const DEFAULT_BIAS: f64 = 0.03;
/// The largest bias that is taken: the lane used last may cost twice as much as the best.
const MAX_BIAS: f64 = 1.0;

/// What the user says about the choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Override {
    /// Nothing: the costs decide.
    #[default]
    Auto,
    /// This lane for every message; one that it does not take is refused.
    Lane(Lane),
    /// Messages of up to so many bytes go through the queue: inline, or in the kernel's packets where there is no inline
    /// lane or it does not take them. Longer ones go into the arena, or into a file of their own where the arena does not take
    /// them. A message that no lane of its side takes goes to the other side.
    Threshold(u64),
}

impl Override {
    /// The lanes to try for `len` bytes, the first that takes them being the one, and the length up to which that is the
    /// order. Nothing if the costs decide.
    pub(super) fn order(self, len: u64) -> Option<(&'static [Lane], u64)> {
        use Lane::{Arena, File, Inline, Kernel};
        match self {
            Self::Auto => None,
            Self::Lane(lane) => Some((&Lane::ALL[lane.index()..=lane.index()], u64::MAX)),
            Self::Threshold(bytes) if len <= bytes => Some((&[Inline, Kernel, Arena, File], bytes)),
            Self::Threshold(_) => Some((&[Arena, File, Inline, Kernel], u64::MAX)),
        }
    }
}

/// A message that no lane takes, or not the one that the user fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of {len} bytes was given; {} takes 0 to {limit} bytes", Taker(*lane))]
pub struct RouteError {
    /// Bytes in the message.
    pub len: u64,
    /// The longest message that is taken, in bytes.
    pub limit: u64,
    /// The lane that the user fixed, if it is that one's limit.
    pub lane: Option<Lane>,
}

struct Taker(Option<Lane>);

impl fmt::Display for Taker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(lane) => write!(f, "the lane that was fixed ({lane})"),
            None => f.write_str("the largest lane"),
        }
    }
}

/// A setting that a router cannot work with. It keeps the one it had.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RouterError {
    /// The table has no lane at all.
    #[error("the table of costs has no lane")]
    NoLane,
    /// The user fixed a lane that is not in the table.
    #[error("the lane {lane} was fixed, and the table of costs does not have it")]
    MissingLane {
        /// The lane that was fixed.
        lane: Lane,
    },
    /// The bias is out of range; NaN is.
    #[error("bias is {value}; 0 to {max} are allowed")]
    Bias {
        /// What was given, as a fraction.
        value: f64,
        /// The largest value allowed; the smallest is zero.
        max: f64,
    },
}

/// Chooses a lane for each message of one sender.
///
/// It keeps to the lane it used last until another one is cheaper by more than the bias, so lengths near a crossing do
/// not change lanes with every message, and neither do new costs that differ from the old ones by less than the bias.
///
/// A sender that cares for each nanosecond may compare with [`upto`](Self::upto) and not ask at all.
///
/// # Examples
///
/// ```
/// use ipc_core::router::{Cost, Costs, Lane, Model, Override, Router};
///
/// let costs = Costs::new()
///     .with(Lane::Inline, Model::line(Cost::new(100.0, 0.1)?), 64 << 10)
///     .with(Lane::Arena, Model::line(Cost::new(600.0, 0.05)?), 64 << 20);
/// let mut router = Router::new(costs)?; // they cross at 10000 bytes
/// assert_eq!(router.route(10_001)?, Lane::Arena);
/// assert_eq!(router.route(9_999)?, Lane::Arena); // cheaper inline, but by less than 3 %
/// assert_eq!(router.route(5_000)?, Lane::Inline);
/// assert_eq!(router.route(10_001)?, Lane::Inline); // and the same the other way round
///
/// router.set_override(Override::Threshold(1000))?;
/// assert_eq!((router.route(1000)?, router.route(1001)?), (Lane::Inline, Lane::Arena));
///
/// let error = router.route(1 << 30).unwrap_err();
/// assert_eq!(error.to_string(), "a message of 1073741824 bytes was given; the largest lane takes 0 to 67108864 bytes");
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Router {
    /// The shortest length of the range in which `lane` is kept.
    from: u64,
    /// How many lengths that range has; 0 when nothing is known, and one too few if it has all 2^64.
    width: u64,
    /// The lane of the last message; before the first one any.
    lane: Lane,
    /// Whether there was a message.
    used: bool,
    /// The lane of empty messages.
    first: Lane,
    /// How long messages may be that keep to the first lane.
    stay_upto: u64,
    /// How long messages may be that return to the first lane from every other one.
    return_upto: Option<u64>,
    /// How much dearer than the best the last lane may be, as a fraction.
    bias: f64,
    over: Override,
    costs: Costs,
    /// The range that each lane had when it was last entered, so that alternating between lanes does not solve for crossings
    /// each time.
    known: [Option<Range>; Lane::COUNT],
}

impl Router {
    /// A router over `costs`, with [`DEFAULT_BIAS`] and no override.
    ///
    /// # Errors
    ///
    /// [`RouterError::NoLane`] if the table is empty.
    pub fn new(costs: Costs) -> Result<Self, RouterError> {
        let first = costs.best(0).ok_or(RouterError::NoLane)?;
        let mut router = Self {
            from: 0,
            width: 0,
            lane: first,
            used: false,
            first,
            stay_upto: 0,
            return_upto: None,
            bias: DEFAULT_BIAS,
            over: Override::Auto,
            costs,
            known: [None; Lane::COUNT],
        };
        router.prepare();
        Ok(router)
    }

    /// The router with another bias: how much cheaper another lane must be than the one used last, as a fraction (0.03 is
    /// 3 %). With 0 the best lane is always chosen.
    ///
    /// # Errors
    ///
    /// [`RouterError::Bias`] for a number that is not between 0 and 1.
    pub fn with_bias(mut self, bias: f64) -> Result<Self, RouterError> {
        // A range does not contain NaN.
        if !(0.0..=MAX_BIAS).contains(&bias) {
            return Err(RouterError::Bias { value: bias, max: MAX_BIAS });
        }
        self.bias = bias;
        self.prepare();
        Ok(self)
    }

    /// The router with what the user says.
    ///
    /// # Errors
    ///
    /// As [`set_override`](Self::set_override).
    pub fn with_override(mut self, over: Override) -> Result<Self, RouterError> {
        self.set_override(over)?;
        Ok(self)
    }

    /// Sets what the user says about the choice, from the next message on.
    ///
    /// # Errors
    ///
    /// [`RouterError::MissingLane`] for a lane that the costs do not have; the router stays as it was.
    pub fn set_override(&mut self, over: Override) -> Result<(), RouterError> {
        check(&self.costs, over)?;
        self.over = over;
        self.prepare();
        Ok(())
    }

    /// Sets new costs, from the next message on. The lane used last is kept unless another one is now cheaper by more than the
    /// bias, so costs that were measured again change nothing while they differ by less.
    ///
    /// # Errors
    ///
    /// [`RouterError::NoLane`] if the table is empty, [`RouterError::MissingLane`] if it does not have the lane that the user
    /// fixed; the router stays as it was.
    pub fn set_costs(&mut self, costs: Costs) -> Result<(), RouterError> {
        check(&costs, self.over)?;
        self.costs = costs;
        self.prepare();
        Ok(())
    }

    /// The lane for a message of `len` bytes, which is then the lane used last.
    ///
    /// # Errors
    ///
    /// [`RouteError`] for a message that is longer than any lane takes, or than the lane takes that the user fixed.
    #[inline]
    pub fn route(&mut self, len: u64) -> Result<Lane, RouteError> {
        // One comparison for both ends: below `from` the difference wraps round to a large number.
        if len.wrapping_sub(self.from) < self.width { Ok(self.lane) } else { self.leave(len) }
    }

    /// The lane for empty messages: the first one of the bands.
    #[must_use]
    pub const fn first(&self) -> Lane {
        self.first
    }

    /// The longest message, in bytes, for which it is certain that this and every shorter one goes to the
    /// [`first`](Self::first) lane now: [`stay_upto`](Self::stay_upto) while that is the lane used last, else
    /// [`return_upto`](Self::return_upto). Nothing if not even that of an empty message is certain.
    ///
    /// A sender may send such messages by the first lane without asking. It then has to take the number anew only when
    /// [`route`](Self::route) was called or a setting changed. The router does not learn of these messages: lengths between the
    /// two bounds then stay on the lane that was last asked for, which is within the bias as well.
    #[inline]
    #[must_use]
    pub fn upto(&self) -> Option<u64> {
        if self.used && self.lane == self.first { Some(self.stay_upto) } else { self.return_upto }
    }

    /// The longest message, in bytes, up to which all keep to the first lane, if it was used last.
    #[must_use]
    pub const fn stay_upto(&self) -> u64 {
        self.stay_upto
    }

    /// The longest message, in bytes, up to which all go to the first lane, whichever was used last; nothing if another
    /// lane would be kept even for an empty message.
    #[must_use]
    pub const fn return_upto(&self) -> Option<u64> {
        self.return_upto
    }

    /// The costs it works with.
    #[must_use]
    pub const fn costs(&self) -> &Costs {
        &self.costs
    }

    /// The bias, as a fraction.
    #[must_use]
    pub const fn bias(&self) -> f64 {
        self.bias
    }

    /// What the user said.
    #[must_use]
    pub const fn overridden(&self) -> Override {
        self.over
    }

    /// The lanes that it would choose without a memory, from short messages to long ones, each with its lengths.
    #[must_use]
    pub fn bands(&self) -> Bands<'_> {
        Bands::new(&self.costs, self.over)
    }

    /// Chooses for a length that is outside the range of the lane used last.
    #[inline(never)]
    fn leave(&mut self, len: u64) -> Result<Lane, RouteError> {
        let slack = 1.0 + self.bias;
        let lane = match self.over.order(len) {
            Some((order, _)) => self.costs.first_of(order, len),
            None => self.costs.choose(len, self.used.then_some(self.lane), slack),
        };
        let lane = lane.ok_or_else(|| self.refusal(len))?;
        let range = match self.known[lane.index()] {
            Some(range) if range.contains(len) => range,
            _ if self.over == Override::Auto => self.costs.stay(lane, len, slack),
            _ => {
                let band = self.bands().find(|band| len <= band.upto);
                band.map_or(Range { from: len, upto: len }, |band| Range { from: band.from, upto: band.upto })
            }
        };
        self.known[lane.index()] = Some(range);
        self.lane = lane;
        self.used = true;
        self.from = range.from;
        self.width = (range.upto - range.from).saturating_add(1);
        Ok(lane)
    }

    #[cold]
    fn refusal(&self, len: u64) -> RouteError {
        let lane = match self.over {
            Override::Lane(lane) => Some(lane),
            Override::Auto | Override::Threshold(_) => None,
        };
        let limit = lane.map_or_else(|| self.costs.largest(), |lane| self.costs.limit(lane)).unwrap_or(0);
        RouteError { len, limit, lane }
    }

    /// Forgets what followed from the settings before, and works out the bounds of the first lane.
    fn prepare(&mut self) {
        self.width = 0;
        self.known = [None; Lane::COUNT];
        let Some(band) = self.bands().next() else { return };
        let slack = 1.0 + self.bias;
        self.first = band.lane;
        if self.over == Override::Auto {
            self.stay_upto = self.costs.stay(band.lane, 0, slack).upto;
            self.return_upto = self.costs.alone_upto(band.lane, slack);
        } else {
            self.stay_upto = band.upto;
            self.return_upto = Some(band.upto);
        }
    }
}

impl fmt::Display for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.bands(), f)
    }
}

/// Says whether a router can work with both.
fn check(costs: &Costs, over: Override) -> Result<(), RouterError> {
    match over {
        _ if costs.largest().is_none() => Err(RouterError::NoLane),
        Override::Lane(lane) if costs.limit(lane).is_none() => Err(RouterError::MissingLane { lane }),
        Override::Auto | Override::Lane(_) | Override::Threshold(_) => Ok(()),
    }
}
