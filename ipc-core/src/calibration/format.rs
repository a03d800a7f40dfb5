//! The text of a calibration file.
//!
//! Promise: what was written is read back to the bit; any other bytes are refused with the line, what stands there, and what may.
//! Refusal: whether the numbers belong to this machine is not judged here.
//!
//! ```text
//! ipc-calibration 1
//! layout 0x6f0b7a2c41d5e893
//! boot 3f0c1e5e-8a0b-4a53-9d5e-0f6f4c1b2a77
//! kernel 6.18.44
//! cpus 2
//! cpu AMD EPYC
//! origin full
//! lane shared kernel 1600 0.25
//! lane shared inline 100 0.12 knee 16384 2066.08 0.2
//! ...
//! end
//! ```
//!
//! A `lane` line: queue, lane, ns, ns a byte; behind `knee` the last length (bytes) of that line, and the line beyond, which counts from
//! there ([`Model::bent`]). Each lane of each queue has one line, in any order. The last line tells a file that is whole.

use super::{Calibration, Machine, Origin, Queue};
use crate::router::{Cost, Lane, MAX_FIXED_NS, MAX_PER_BYTE_NS, Model};
use std::borrow::ToOwned;
use std::format;
use std::string::{String, ToString};

/// Version of the format of the file. Files of another one are not used.
pub const FORMAT_VERSION: u32 = 1;

/// The longest part of a wrong value that is shown, in characters.
const SHOWN: usize = 64;

/// Text that is no calibration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {field} is {value:?}; allowed: {allowed}")]
pub struct FormatError {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong.
    pub field: &'static str,
    /// What stands there; its first 64 characters.
    pub value: String,
    /// What may stand there.
    pub allowed: String,
}

/// What a file says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Content {
    pub(super) calibration: Calibration,
    pub(super) machine: Machine,
    /// The layout hash of the library that was measured.
    pub(super) layout: u64,
}

impl Content {
    pub(super) fn encode(&self) -> String {
        let Self { calibration, machine: Machine { boot, kernel, cpus, cpu }, layout } = self;
        let mut text = format!(
            "ipc-calibration {FORMAT_VERSION}\nlayout {layout:#x}\nboot {boot}\nkernel {kernel}\ncpus {cpus}\ncpu {cpu}\norigin {}\n",
            calibration.origin()
        );
        for queue in Queue::ALL {
            for &lane in queue.lanes() {
                let Some(model) = calibration.model(queue, lane) else { continue };
                let below = model.below();
                text += &format!("lane {queue} {lane} {} {}", below.fixed_ns(), below.per_byte_ns());
                if let Some((knee, above)) = model.above() {
                    text += &format!(" knee {knee} {} {}", above.fixed_ns(), above.per_byte_ns());
                }
                text += "\n";
            }
        }
        text + "end\n"
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let text = core::str::from_utf8(bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            let value = format!("byte {} of the file", error.valid_up_to());
            FormatError { line, field: "text", value, allowed: "UTF-8".into() }
        })?;
        Lines { rest: text.split('\n'), line: 0 }.content()
    }
}

/// The lines that are left, and the number of the one that was taken last.
struct Lines<'t> {
    rest: core::str::Split<'t, char>,
    line: usize,
}

impl<'t> Lines<'t> {
    fn content(mut self) -> Result<Content, FormatError> {
        let version = self.keyed("ipc-calibration")?;
        if version != FORMAT_VERSION.to_string() {
            return Err(self.wrong("version", version, FORMAT_VERSION));
        }
        let layout = self.keyed("layout")?;
        let digits = layout.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let layout = digits.ok_or_else(|| self.wrong("layout", layout, "0x and up to 16 hexadecimal digits"))?;
        let boot = self.keyed("boot")?.to_owned();
        let kernel = self.keyed("kernel")?.to_owned();
        let cpus = self.keyed("cpus")?;
        let cpus = cpus.parse().map_err(|_| self.wrong("cpus", cpus, format_args!("0 to {}", u32::MAX)))?;
        let cpu = self.keyed("cpu")?.to_owned();
        let origin = match self.keyed("origin")? {
            "quick" => Origin::Quick,
            "full" => Origin::Full,
            other => return Err(self.wrong("origin", other, "quick, full")),
        };
        let calibration = self.lanes(origin)?;
        match (self.rest.next(), self.rest.next()) {
            (Some("") | None, None) => {
                Ok(Content { calibration, machine: Machine { boot, kernel, cpus, cpu }, layout })
            }
            (Some(""), Some(more)) | (Some(more), _) | (None, Some(more)) => {
                self.line += 1;
                Err(self.wrong("what follows the end", more, "nothing"))
            }
        }
    }

    /// The lines of lanes, and the one behind them.
    fn lanes(&mut self, origin: Origin) -> Result<Calibration, FormatError> {
        let mut calibration = Calibration::defaults().with_origin(origin);
        let mut seen = [[false; Lane::COUNT]; 2];
        loop {
            let line = self.next()?;
            if line == "end" {
                break;
            }
            let mut words = line.split(' ');
            if words.next() != Some("lane") {
                return Err(self.wrong("line", line, "lane QUEUE LANE NS NS_A_BYTE, end"));
            }
            let queue = self.one_of("queue", words.next(), &Queue::ALL)?;
            let lane = self.one_of("lane", words.next(), queue.lanes())?;
            if core::mem::replace(&mut seen[queue as usize][lane.index()], true) {
                return Err(self.wrong("lane", &format!("{queue} {lane}"), "each lane once"));
            }
            let below = self.cost(&mut words)?;
            let model = match words.next() {
                None => Model::line(below),
                Some("knee") => {
                    let knee = words.next().unwrap_or_default();
                    let allowed = format_args!("0 to {}", u64::MAX - 1);
                    let bytes = knee.parse().ok().filter(|bytes| *bytes < u64::MAX);
                    let bytes = bytes.ok_or_else(|| self.wrong("knee", knee, allowed))?;
                    Model::bent(below, bytes, self.cost(&mut words)?)
                }
                Some(other) => return Err(self.wrong("word behind the line's numbers", other, "knee")),
            };
            if let Some(more) = words.next() {
                return Err(self.wrong("word behind the line's numbers", more, "nothing"));
            }
            calibration = calibration.with(queue, lane, model);
        }
        for queue in Queue::ALL {
            if let Some(lane) = queue.lanes().iter().find(|lane| !seen[queue as usize][lane.index()]) {
                return Err(self.wrong("lane that is missing", &format!("{queue} {lane}"), "none"));
            }
        }
        Ok(calibration)
    }

    fn next(&mut self) -> Result<&'t str, FormatError> {
        self.line += 1;
        self.rest.next().ok_or_else(|| self.wrong("line", "", "a file that ends with the line \"end\""))
    }

    /// What stands behind the word `key`, with which the next line must begin.
    fn keyed(&mut self, key: &'static str) -> Result<&'t str, FormatError> {
        let line = self.next()?;
        let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(' '));
        value.filter(|value| !value.is_empty()).ok_or_else(|| self.wrong("line", line, format_args!("{key} VALUE")))
    }

    fn one_of<V: Copy + ToString>(&self, field: &'static str, word: Option<&str>, all: &[V]) -> Result<V, FormatError> {
        let word = word.unwrap_or_default();
        let found = all.iter().find(|value| value.to_string() == word).copied();
        found.ok_or_else(|| {
            self.wrong(field, word, all.iter().map(V::to_string).collect::<std::vec::Vec<_>>().join(", "))
        })
    }

    fn cost<'w>(&self, words: &mut impl Iterator<Item = &'w str>) -> Result<Cost, FormatError> {
        let mut number = |field, max: f64| {
            let word = words.next().unwrap_or_default();
            word.parse::<f64>().map_err(|_| self.wrong(field, word, format_args!("0 to {max}")))
        };
        let (fixed, per_byte) = (number("ns", MAX_FIXED_NS)?, number("ns a byte", MAX_PER_BYTE_NS)?);
        Cost::new(fixed, per_byte).map_err(|error| {
            self.wrong(
                if error.field == "fixed_ns" { "ns" } else { "ns a byte" },
                &error.value.to_string(),
                format_args!("0 to {}", error.max),
            )
        })
    }

    fn wrong(&self, field: &'static str, value: &str, allowed: impl ToString) -> FormatError {
        FormatError { line: self.line, field, value: value.chars().take(SHOWN).collect(), allowed: allowed.to_string() }
    }
}

#[cfg(all(test, not(loom)))]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn machine() -> Machine {
        Machine { boot: "3f0c1e5e".into(), kernel: "6.18.44".into(), cpus: 2, cpu: "AMD EPYC".into() }
    }

    pub(crate) fn content() -> Content {
        let cost = |a, b| Cost::new(a, b).unwrap();
        let bent = Model::bent(cost(100.0, 0.12), 16384, cost(2066.08, 0.2));
        let calibration = Calibration::defaults()
            .with_origin(Origin::Full)
            .with(Queue::Shared, Lane::Inline, bent)
            .with(Queue::Socket, Lane::Kernel, Model::line(cost(1500.0, 0.25)));
        Content { calibration, machine: machine(), layout: 0x6f0b_7a2c_41d5_e893 }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let text = content().encode();
        assert!(text.contains("lane shared inline 100 0.12 knee 16384 2066.08 0.2\n"), "{text}");
        assert_eq!(Content::decode(text.as_bytes()), Ok(content()));
    }

    #[test]
    fn a_wrong_line_is_told_with_its_value_and_what_is_allowed() {
        let text = content().encode();
        for (was, is, told) in [
            ("ipc-calibration 1", "ipc-calibration 2", "line 1: version is \"2\"; allowed: 1"),
            ("ipc-calibration 1", "hello", "line 1: line is \"hello\"; allowed: ipc-calibration VALUE"),
            ("0x6f0b7a2c41d5e893", "12", "line 2: layout is \"12\"; allowed: 0x and up to 16 hexadecimal digits"),
            ("cpus 2", "cpus many", "line 5: cpus is \"many\"; allowed: 0 to 4294967295"),
            ("origin full", "origin defaults", "line 7: origin is \"defaults\"; allowed: quick, full"),
            (
                "lane shared inline 100 0.12",
                "lane shared inline NaN 0.12",
                "line 9: ns is \"NaN\"; allowed: 0 to 1000000000000",
            ),
            (
                "lane shared inline 100 0.12",
                "lane shared inline 100 -1",
                "line 9: ns a byte is \"-1\"; allowed: 0 to 1000000",
            ),
            (
                "lane shared inline 100 0.12",
                "lane shared inline 100",
                "line 9: ns a byte is \"knee\"; allowed: 0 to 1000000",
            ),
            (
                "knee 16384",
                "knee 18446744073709551615",
                "line 9: knee is \"18446744073709551615\"; allowed: 0 to 18446744073709551614",
            ),
            (
                "knee 16384 2066.08 0.2",
                "knee 16384 2066.08 0.2 1",
                "line 9: word behind the line's numbers is \"1\"; allowed: nothing",
            ),
            ("knee 16384 2066.08 0.2", "bend", "line 9: word behind the line's numbers is \"bend\"; allowed: knee"),
            (
                "lane shared inline",
                "lane shared outline",
                "line 9: lane is \"outline\"; allowed: kernel, inline, arena, fd",
            ),
            ("lane shared inline", "lane socket inline", "line 9: lane is \"inline\"; allowed: kernel, arena, fd"),
            ("lane shared inline", "lane pipe inline", "line 9: queue is \"pipe\"; allowed: shared, socket"),
            ("lane shared fd", "lane shared arena", "line 11: lane is \"shared arena\"; allowed: each lane once"),
            ("lane socket kernel 1500 0.25\n", "", "line 14: lane that is missing is \"socket kernel\"; allowed: none"),
            ("end\n", "", "line 15: line is \"\"; allowed: lane QUEUE LANE NS NS_A_BYTE, end"),
            ("end\n", "end\nmore\n", "line 16: what follows the end is \"more\"; allowed: nothing"),
        ] {
            assert!(text.contains(was), "{was}");
            let error = Content::decode(text.replacen(was, is, 1).as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), told);
        }
        let error = Content::decode(b"ipc-calibration 1\nlayout \xff").unwrap_err();
        assert_eq!(error.to_string(), "line 2: text is \"byte 25 of the file\"; allowed: UTF-8");
    }

    #[test]
    fn a_file_that_was_cut_is_not_used() {
        let text = content().encode();
        for end in 0..text.len() - 1 {
            assert!(Content::decode(&text.as_bytes()[..end]).is_err(), "cut at {end}");
        }
        assert!(Content::decode(text.trim_end().as_bytes()).is_ok(), "the last line is whole");
    }

    fn any_cost() -> impl Strategy<Value = Cost> {
        (0.0..=MAX_FIXED_NS, 0.0..=MAX_PER_BYTE_NS).prop_map(|(a, b)| Cost::new(a, b).unwrap())
    }

    proptest! {
        #[test]
        fn every_cost_is_read_back_to_the_bit(below in any_cost(), above in any_cost(), knee in any::<u64>()) {
            let mut content = content();
            content.calibration = content.calibration.with(Queue::Socket, Lane::File, Model::bent(below, knee, above));
            prop_assert_eq!(Content::decode(content.encode().as_bytes()), Ok(content));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Content::decode(&bytes);
        }

        #[test]
        fn a_changed_file_is_refused_or_means_something_else(
            at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = content().encode().into_bytes();
            let at = at.index(bytes.len());
            let before = core::mem::replace(&mut bytes[at], byte);
            // The same number can be written in several ways, such as +2 for a 2 behind a blank; but not every byte of it.
            match Content::decode(&bytes) {
                Ok(read) if byte == before => prop_assert_eq!(read, content()),
                Ok(read) => prop_assert!(Content::decode(read.encode().as_bytes()) == Ok(read)),
                Err(error) => prop_assert!(error.line >= 1),
            }
            bytes.truncate(cut.index(bytes.len()));
            let _ = Content::decode(&bytes);
        }
    }
}
