//! The costs that this process uses: read when it makes its first connection, measured when that pays.
//!
//! Promise: a call waits for a measurement at most once in a process, and only after the messages that needed the costs took as long
//! together; nobody waits for another thread's measurement. Refusal: senders of connections that exist learn of new costs when they next
//! send a message that their router decides about, not before.

use super::quick::{self, QUICK_BUDGET};
use super::{Calibration, Limits, Origin};
use crate::router::{Override, Router};
use crate::terms::Mode;
use std::ffi::OsStr;
use std::format;
use std::path::Path;
use std::string::{String, ToString};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The environment variable that says where costs come from.
pub const VARIABLE: &str = "IPC_CALIBRATION";

/// The costs that a process uses, and why they are not others.
#[derive(Clone, Debug)]
pub struct InUse {
    calibration: Calibration,
    note: Option<String>,
    may_measure: bool,
}

impl InUse {
    /// The costs.
    #[must_use]
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Why a file was not used, or not written: a sentence for people.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Whether this process measures by itself once that pays.
    #[must_use]
    pub fn may_measure(&self) -> bool {
        self.may_measure
    }

    /// What the variable says, or without one the cache.
    fn find(variable: Option<&OsStr>, load: impl FnOnce() -> Result<Calibration, super::LoadError>) -> Self {
        let value = variable.unwrap_or_default();
        let defaults = |note| Self { calibration: Calibration::defaults(), note, may_measure: false };
        let is_known = value.is_empty() || value == "off";
        if value == "defaults" {
            return defaults(None);
        }
        if Path::new(value).is_absolute() {
            return match Calibration::load_from(Path::new(value)) {
                Ok(calibration) => Self { calibration, note: None, may_measure: false },
                Err(error) => defaults(Some(error.to_string())),
            };
        }
        let unknown = || format!("{VARIABLE} is {value:?}; allowed: off, defaults, an absolute path; taken as off");
        match load() {
            Ok(calibration) => Self { calibration, note: (!is_known).then(unknown), may_measure: false },
            Err(_) if !is_known => defaults(Some(unknown())),
            Err(error) => Self { may_measure: value.is_empty(), ..defaults(Some(error.to_string())) },
        }
    }
}

/// What the processes' senders share.
struct Known {
    /// What was found at first.
    found: OnceLock<InUse>,
    /// What this process measured. Set once, by the thread that took `is_taken`.
    measured: OnceLock<InUse>,
    /// Whether a thread has begun to measure. It stays so when the measurement fails: no other would do better.
    is_taken: AtomicBool,
    /// Time that messages took which needed the costs, as far as the costs themselves say, in ns.
    spent: AtomicU64,
}

static KNOWN: Known = Known::new();

/// What this process uses. The first call reads the cache file.
pub fn in_use() -> &'static InUse {
    KNOWN.in_use(|| InUse::find(std::env::var_os(VARIABLE).as_deref(), Calibration::load))
}

/// Measures now, for at most [`QUICK_BUDGET`], keeps what was found for this boot and uses it; a process measures once. `None` if the
/// machine was too busy for a measurement to be believed, or another thread measures at the moment: the costs in use stay.
///
/// Without it a process measures by itself once that pays, unless it may not ([`InUse::may_measure`]); for a measurement between two
/// processes there is `ipc calibrate`.
///
/// # Examples
/// ```no_run
/// let costs = ipc_core::calibration::measure_now().unwrap_or(ipc_core::calibration::in_use());
/// println!("{}", costs.calibration().origin());
/// ```
pub fn measure_now() -> Option<&'static InUse> {
    KNOWN.measure_now(measure)
}

impl Known {
    fn measure_now(&self, measure: impl FnOnce() -> Option<InUse>) -> Option<&InUse> {
        self.measure_once(measure);
        self.measured.get()
    }

    /// Measures, unless a thread has begun to.
    fn measure_once(&self, measure: impl FnOnce() -> Option<InUse>) {
        // Relaxed: what is measured is published by the cell. Looked at first, so that who comes later only reads.
        if !self.is_taken.load(Ordering::Relaxed)
            && !self.is_taken.swap(true, Ordering::Relaxed)
            && let Some(measured) = measure()
        {
            let _ = self.measured.set(measured);
        }
    }

    const fn new() -> Self {
        Self {
            found: OnceLock::new(),
            measured: OnceLock::new(),
            is_taken: AtomicBool::new(false),
            spent: AtomicU64::new(0),
        }
    }

    fn in_use(&self, find: impl FnOnce() -> InUse) -> &InUse {
        if let Some(known) = self.measured.get().or_else(|| self.found.get()) {
            return known;
        }
        // Looked for before the cell is locked: a child that another thread forks meanwhile must not find it locked for good. Threads
        // that come together look twice.
        let found = find();
        self.found.get_or_init(|| found)
    }

    /// Notes that a message will take `ns`, and measures if it is time, with `measure`.
    fn spend(&self, ns: u64, may_wait: bool, measure: impl FnOnce() -> Option<InUse>) {
        // Relaxed: a sum that nothing depends on; whoever measures is decided by the swap.
        let spent = self.spent.fetch_add(ns, Ordering::Relaxed).saturating_add(ns);
        let is_time = may_wait && u128::from(spent) >= QUICK_BUDGET.as_nanos();
        if is_time {
            self.measure_once(measure);
        }
    }
}

/// What one sender does to have good costs.
#[derive(Debug)]
pub(crate) struct Refresh {
    mode: Mode,
    limits: Limits,
    /// Nothing better will come.
    is_settled: bool,
}

impl Refresh {
    pub(super) fn new(mode: Mode, limits: Limits) -> Self {
        // A connection with one lane has no choice.
        let is_settled = mode == Mode::Kernel || !in_use().may_measure();
        Self { mode, limits, is_settled }
    }

    /// To be called before a message is routed that the router has to be asked about: takes over what was measured meanwhile, or measures
    /// if it is time and the call may wait as long as it likes.
    #[inline]
    pub(crate) fn before(&mut self, router: &mut Router, len: u64, may_wait: bool) {
        if !self.is_settled {
            self.refresh(&KNOWN, router, len, may_wait, measure);
        }
    }

    #[cold]
    fn refresh(
        &mut self,
        known: &Known,
        router: &mut Router,
        len: u64,
        may_wait: bool,
        measure: impl FnOnce() -> Option<InUse>,
    ) {
        if router.overridden() != Override::Auto {
            return;
        }
        if known.measured.get().is_none() {
            let costs = router.costs();
            let ns = costs.best(len).and_then(|lane| costs.at(lane, len)).unwrap_or(0.0);
            known.spend(ns as u64, may_wait, measure);
        }
        if let Some(measured) = known.measured.get() {
            // The new table has the lanes of the old one, so nothing is refused.
            let _ = router.set_costs(measured.calibration.costs(self.mode, self.limits));
            self.is_settled = true;
        }
    }
}

fn measure() -> Option<InUse> {
    let calibration = quick::measure()?.with_origin(Origin::Quick);
    // Without a file the next process measures again; this one is served.
    let note = calibration.store().err().map(|error| error.to_string());
    Some(InUse { calibration, note, may_measure: false })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::{LoadError, Queue, line};
    use super::*;
    use crate::router::Lane;
    use std::cell::Cell;

    fn measured() -> Calibration {
        Calibration::defaults().with(Queue::Shared, Lane::Arena, line(1.0, 0.0)).with_origin(Origin::Quick)
    }

    fn in_use_of(calibration: Calibration) -> InUse {
        InUse { calibration, note: None, may_measure: false }
    }

    fn missing() -> Result<Calibration, LoadError> {
        Err(LoadError::Missing { path: "/kept".into() })
    }

    fn find(value: &str, load: fn() -> Result<Calibration, LoadError>) -> (Origin, bool, Option<String>) {
        let found = InUse::find(Some(OsStr::new(value)), load);
        (found.calibration.origin(), found.may_measure, found.note)
    }

    #[test]
    fn who_asks_for_a_measurement_gets_one_and_a_process_has_one_only() {
        let known = Known::new();
        assert!(known.measure_now(|| Some(in_use_of(measured()))).is_some());
        let again = known.measure_now(|| panic!("measured twice")).expect("what was measured");
        assert_eq!(again.calibration().origin(), Origin::Quick);

        let busy = Known::new();
        assert!(busy.measure_now(|| None).is_none());
        assert!(busy.measure_now(|| panic!("it would do no better")).is_none());
    }

    #[test]
    fn the_variable_says_where_costs_come_from() {
        let there = || Ok(measured());
        let note = || Some("there is no calibration file \"/kept\"".to_string());
        assert_eq!(find("", there), (Origin::Quick, false, None));
        assert_eq!(find("", missing), (Origin::Defaults, true, note()));
        assert_eq!(find("off", there), (Origin::Quick, false, None));
        assert_eq!(find("off", missing), (Origin::Defaults, false, note()));
        assert_eq!(find("defaults", || panic!("a file is read")), (Origin::Defaults, false, None));
        let (origin, may_measure, note) = find("/nowhere/at/all", || panic!("the cache is read"));
        assert_eq!((origin, may_measure), (Origin::Defaults, false));
        assert_eq!(note.unwrap(), "there is no calibration file \"/nowhere/at/all\"");
        let (_, may_measure, note) = find("fast", missing);
        assert!(!may_measure);
        let told = "IPC_CALIBRATION is \"fast\"; allowed: off, defaults, an absolute path; taken as off";
        assert_eq!(note.unwrap(), told);
    }

    const LIMITS: Limits = Limits { ring: 65_528, pieces: 1 << 28, arena: 1 << 28, message: 1 << 40 };
    /// Costs something, and more than a small message on every lane.
    const LEN: u64 = 1 << 20;

    fn sender() -> (Router, Refresh) {
        let router = Router::new(Calibration::defaults().costs(Mode::Auto, LIMITS)).unwrap();
        (router, Refresh { mode: Mode::Auto, limits: LIMITS, is_settled: false })
    }

    #[test]
    fn a_measurement_waits_until_messages_took_as_long() {
        let known = Known::new();
        let (mut router, mut refresh) = sender();
        let each = router.costs().at(router.costs().best(LEN).unwrap(), LEN).unwrap() as u64;
        let due = (QUICK_BUDGET.as_nanos() as u64).div_ceil(each);
        let count = Cell::new(0);
        let measure = || {
            count.set(count.get() + 1);
            Some(in_use_of(measured()))
        };
        for number in 1..due {
            refresh.refresh(&known, &mut router, LEN, true, measure);
            assert_eq!(count.get(), 0, "message {number} of {due}");
        }
        refresh.refresh(&known, &mut router, LEN, true, measure);
        assert_eq!((count.get(), refresh.is_settled), (1, true));
        assert_eq!(*router.costs(), measured().costs(Mode::Auto, LIMITS));
    }

    #[test]
    fn other_senders_take_over_what_one_measured() {
        let known = Known::new();
        known.in_use(|| in_use_of(Calibration::defaults()));
        known.spend(u64::MAX / 2, true, || Some(in_use_of(measured())));
        assert_eq!(known.in_use(|| panic!("looked for twice")).calibration.origin(), Origin::Quick);
        let (mut router, mut refresh) = sender();
        refresh.refresh(&known, &mut router, LEN, false, || panic!("measured twice"));
        assert_eq!(*router.costs(), measured().costs(Mode::Auto, LIMITS));
    }

    #[test]
    fn a_failed_measurement_is_not_repeated() {
        let known = Known::new();
        known.spend(u64::MAX / 2, true, || None);
        known.spend(1, true, || panic!("measured again"));
        let (mut router, mut refresh) = sender();
        refresh.refresh(&known, &mut router, LEN, true, || panic!("measured again"));
        assert_eq!(*router.costs(), Calibration::defaults().costs(Mode::Auto, LIMITS));
    }

    #[test]
    fn calls_that_do_not_wait_never_measure_and_neither_does_a_lane_that_is_fixed() {
        let known = Known::new();
        known.spend(u64::MAX / 2, false, || panic!("measured"));
        let (mut router, mut refresh) = sender();
        router.set_override(Override::Lane(Lane::Arena)).unwrap();
        refresh.refresh(&known, &mut router, LEN, true, || panic!("measured"));
        assert!(!refresh.is_settled, "the costs may count later");
    }
}
