//! What `ipc bench remap` found: measured throughput beside the model.
//!
//! With r remaps a second that cost c seconds each, and t seconds a message, a stream passes `(1 − r·c) / t` messages a
//! second: each second has `1 − r·c` left for messages. Source: the project's design, "map once".
//!
//! Promise: each model value can be recomputed from r, c and t of its row. Refusal: c is not adjusted to make a model fit, except
//! where it is called `loss`.

use super::super::process::Fallible;
use super::super::stats::Summary;
use super::faults::Fault;
use super::interrupt::Interruption;
use super::rate::Rate;
use super::stream::{End, MESSAGE, Sample, Setup};
use super::thread::Kind;
use super::{Trial, Turn};
use serde::Serialize;

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Which processor did what.
    pub(super) processors: Processors,
    /// Which process remapped.
    pub(super) side: End,
    /// Bytes of a remap.
    pub(super) bytes: usize,
    /// Bytes of a message.
    pub(super) message_bytes: usize,
    pub(super) rounds: usize,
    /// How long each stream was timed, seconds.
    pub(super) run_seconds: f64,
    /// t: nanoseconds a message while nothing is remapped.
    pub(super) t_ns: Summary,
    /// A row for each kind and rate.
    pub(super) remaps: Vec<Row>,
    /// One c for each kind and meaning, over all rates.
    pub(super) costs: Vec<Costs>,
    pub(super) faults: Vec<Fault>,
}

#[derive(Debug, Serialize)]
pub(super) struct Processors {
    pub(super) receiver: usize,
    pub(super) sender: usize,
    pub(super) thread: usize,
    /// The process whose processor the thread uses too.
    pub(super) thread_shares_with: Option<End>,
}

/// One kind at one rate.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) kind: Kind,
    /// The rate that was asked for.
    pub(super) asked: Rate,
    /// r: the rate that was reached.
    pub(super) remaps_per_second: Summary,
    /// Messages a second under remaps.
    pub(super) messages_per_second: Summary,
    /// Messages a second with a thread that takes as much time at the same times and remaps nothing.
    pub(super) control_messages_per_second: Summary,
    /// How often the control's thread did so.
    pub(super) control_times_per_second: Summary,
    /// Processor time of the thread as a part of the time that passed.
    pub(super) thread_share: Summary,
    /// The same for the control.
    pub(super) control_thread_share: Summary,
    /// c as the processor time of the munmap or mprotect call; none without remaps.
    pub(super) c_call_ns: Option<Summary>,
    /// c as all the processor time of the thread, for each remap.
    pub(super) c_thread_ns: Option<Summary>,
    /// c from the loss of throughput: (1 − messages per second · t) / r.
    pub(super) c_loss_ns: Option<Summary>,
    /// c of the remap alone, from the loss against the control: (control − remapping) · t / r.
    pub(super) c_alone_ns: Option<Summary>,
    /// What the model says, for each c that can be put into it.
    pub(super) models: Vec<Model>,
}

/// Which c.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Meaning {
    /// The call that takes away from the address space: munmap or mprotect.
    Call,
    /// All that the thread needs. It is what the stream loses where the thread takes a processor away from it.
    Thread,
    /// What a remap takes from another processor that runs the process. It is what the stream loses where the thread takes no
    /// processor away from it.
    Interrupted,
    /// One c for all rates of a kind, from the loss of throughput.
    Loss,
}

/// The model with one c.
#[derive(Debug, Serialize)]
pub(super) struct Model {
    pub(super) c: Meaning,
    pub(super) c_ns: f64,
    /// (1 − r·c) / t.
    pub(super) messages_per_second: f64,
    /// Measured over model; none where the model leaves no time for messages.
    pub(super) ratio: Option<f64>,
    /// The same in each round, with its own r and t. Steadier where the machine changes its pace between rounds.
    pub(super) paired_ratio: Option<Summary>,
}

/// The costs of one kind, each over all of its rates.
#[derive(Debug, Serialize)]
pub(super) struct Costs {
    pub(super) kind: Kind,
    /// The processor time of the munmap or mprotect call: the rows' medians.
    pub(super) call_ns: Summary,
    /// All the processor time of the thread, for each remap: the rows' medians.
    pub(super) thread_ns: Summary,
    /// In each round, what makes the squares of the differences between losses and r·c least.
    pub(super) loss_ns: Summary,
    /// The same for the losses against the control.
    pub(super) alone_ns: Summary,
    /// What a remap takes from another processor that runs the process, measured without messages.
    pub(super) interrupted_ns: Option<Summary>,
    /// Remaps a second at which that was measured.
    pub(super) interrupted_at_per_second: Option<Summary>,
}

/// Messages a second at `t_ns` nanoseconds a message, with `r` remaps a second of `c_ns` nanoseconds each.
pub(super) fn model(t_ns: f64, r: f64, c_ns: f64) -> f64 {
    (1.0 - r * c_ns / 1e9) * 1e9 / t_ns
}

/// The slope of the line through 0 that is nearest to the points: Σxy / Σx². `None` without points. Source: linear least squares
/// without intercept.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let (products, squares) = points.iter().fold((0.0, 0.0), |(xy, xx), (x, y)| (xy + x * y, xx + x * x));
    (squares > 0.0).then(|| products / squares)
}

impl Report {
    /// Sums up the rounds. `undisturbed` has the stream without remaps of each round.
    ///
    /// # Errors
    /// A figure is no finite number.
    pub(super) fn new(
        setup: &Setup<'_>,
        thread_shares_with: Option<End>,
        undisturbed: &[Sample],
        trials: &[Trial],
        interruptions: &[(Kind, Vec<Interruption>)],
        faults: Vec<Fault>,
    ) -> Fallible<Self> {
        let times: Vec<f64> = undisturbed.iter().map(|sample| 1e9 / sample.messages_per_second).collect();
        let t_ns = Summary::of(&times)?;
        let mut remaps = trials.iter().map(|trial| Row::new(trial, &times)).collect::<Fallible<Vec<_>>>()?;
        let mut costs: Vec<Costs> = Vec::new();
        for (kind, found) in interruptions {
            costs.extend(Costs::of(*kind, trials, &remaps, &times, found)?);
        }
        for row in &mut remaps {
            let costs = costs.iter().find(|costs| costs.kind == row.kind);
            row.add_models(t_ns.median, costs, thread_shares_with.is_some());
            if let Some(trial) = trials.iter().find(|trial| trial.kind == row.kind && trial.rate == row.asked) {
                row.add_paired_ratios(trial, &times)?;
            }
        }
        let (receiver, sender) = setup.duo.cpus();
        Ok(Self {
            processors: Processors { receiver, sender, thread: setup.cpu, thread_shares_with },
            side: setup.side,
            bytes: setup.bytes,
            message_bytes: MESSAGE,
            rounds: times.len(),
            run_seconds: setup.run.as_secs_f64(),
            t_ns,
            remaps,
            costs,
            faults,
        })
    }
}

impl Row {
    /// Everything but the models, which need the costs over all rates. `times` has t of each round.
    fn new(trial: &Trial, times: &[f64]) -> Fallible<Self> {
        let rounds = &trial.rounds;
        let told = |error| format!("{:?} at {} remaps a second: {error}", trial.kind, trial.rate);
        let each = |value: fn(&Turn) -> f64| Summary::of(&rounds.iter().map(value).collect::<Vec<_>>()).map_err(told);
        // What needs a remap is taken from the rounds that had one.
        let paired = |value: fn(&Turn, f64) -> Option<f64>| -> Fallible<Option<Summary>> {
            let values: Vec<f64> = rounds.iter().zip(times).filter_map(|(turn, t_ns)| value(turn, *t_ns)).collect();
            if values.is_empty() { Ok(None) } else { Ok(Some(Summary::of(&values).map_err(told)?)) }
        };
        Ok(Self {
            kind: trial.kind,
            asked: trial.rate,
            remaps_per_second: each(|turn| turn.remapping.times_per_second)?,
            messages_per_second: each(|turn| turn.remapping.messages_per_second)?,
            control_messages_per_second: each(|turn| turn.control.messages_per_second)?,
            control_times_per_second: each(|turn| turn.control.times_per_second)?,
            thread_share: each(|turn| turn.remapping.thread_share)?,
            control_thread_share: each(|turn| turn.control.thread_share)?,
            c_call_ns: paired(|turn, _| Some(turn.remapping.each?.call_ns))?,
            c_thread_ns: paired(|turn, _| Some(turn.remapping.each?.thread_ns))?,
            c_loss_ns: paired(|turn, t_ns| {
                let loss = 1e9 - turn.remapping.messages_per_second * t_ns;
                turn.remapping.each.map(|_| loss / turn.remapping.times_per_second)
            })?,
            c_alone_ns: paired(|turn, t_ns| {
                let loss = (turn.control.messages_per_second - turn.remapping.messages_per_second) * t_ns;
                turn.remapping.each.map(|_| loss / turn.remapping.times_per_second)
            })?,
            models: Vec::new(),
        })
    }

    /// The c that the thread's time is counted in is a cost of the stream only where the two share a processor.
    fn add_models(&mut self, t_ns: f64, costs: Option<&Costs>, is_shared: bool) {
        let r = self.remaps_per_second.median;
        let c = |summary: &Option<Summary>| summary.as_ref().map_or(0.0, |summary| summary.median);
        let mut candidates = vec![(Meaning::Call, c(&self.c_call_ns))];
        if is_shared {
            candidates.push((Meaning::Thread, c(&self.c_thread_ns)));
        }
        candidates.push((Meaning::Interrupted, costs.map_or(0.0, |costs| c(&costs.interrupted_ns))));
        candidates.push((Meaning::Loss, costs.map_or(0.0, |costs| costs.loss_ns.median)));
        self.models = candidates
            .into_iter()
            .map(|(meaning, c_ns)| {
                let messages_per_second = model(t_ns, r, c_ns);
                let ratio = self.messages_per_second.median / messages_per_second;
                let ratio = (messages_per_second > 0.0).then_some(ratio);
                Model { c: meaning, c_ns, messages_per_second, ratio, paired_ratio: None }
            })
            .collect();
    }

    fn add_paired_ratios(&mut self, trial: &Trial, times: &[f64]) -> Fallible<()> {
        for model in &mut self.models {
            let ratios = trial.rounds.iter().zip(times).map(|(turn, t_ns)| {
                let expected = self::model(*t_ns, turn.remapping.times_per_second, model.c_ns);
                (expected > 0.0).then_some(turn.remapping.messages_per_second / expected)
            });
            let ratios: Option<Vec<f64>> = ratios.collect();
            model.paired_ratio = ratios.map(|ratios| Summary::of(&ratios)).transpose()?;
        }
        Ok(())
    }
}

impl Costs {
    /// `None` if nothing of this kind was ever remapped in the streams. `times` has t of each round.
    fn of(
        kind: Kind,
        trials: &[Trial],
        rows: &[Row],
        times: &[f64],
        interruptions: &[Interruption],
    ) -> Fallible<Option<Self>> {
        let middle = |value: fn(&Row) -> Option<Summary>| {
            let own = rows.iter().filter(|row| row.kind == kind);
            own.filter_map(|row| Some(value(row)?.median)).collect::<Vec<_>>()
        };
        let fitted = |loss: fn(&Turn, f64) -> f64| {
            let each = times.iter().enumerate().filter_map(|(round, t_ns)| {
                let turns =
                    trials.iter().filter(|trial| trial.kind == kind).filter_map(|trial| trial.rounds.get(round));
                let remapped = turns.filter(|turn| turn.remapping.each.is_some());
                let points = remapped.map(|turn| (turn.remapping.times_per_second, loss(turn, *t_ns)));
                slope(&points.collect::<Vec<_>>())
            });
            each.collect::<Vec<_>>()
        };
        let calls = middle(|row| row.c_call_ns);
        if calls.is_empty() {
            return Ok(None);
        }
        let interrupted = |value: fn(&Interruption) -> f64| -> Fallible<Option<Summary>> {
            let values: Vec<f64> = interruptions.iter().map(value).collect();
            if values.is_empty() { Ok(None) } else { Ok(Some(Summary::of(&values)?)) }
        };
        Ok(Some(Self {
            kind,
            call_ns: Summary::of(&calls)?,
            thread_ns: Summary::of(&middle(|row| row.c_thread_ns))?,
            loss_ns: Summary::of(&fitted(|turn, t_ns| 1e9 - turn.remapping.messages_per_second * t_ns))?,
            alone_ns: Summary::of(&fitted(|turn, t_ns| {
                (turn.control.messages_per_second - turn.remapping.messages_per_second) * t_ns
            }))?,
            interrupted_ns: interrupted(|found| found.nanoseconds)?,
            interrupted_at_per_second: interrupted(|found| found.remaps_per_second)?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::Each;
    use super::*;

    /// A stream of 10 ns a message that loses `c_ns` for each of `r` remaps a second.
    fn sample(r: f64, c_ns: f64) -> Sample {
        let each = (r > 0.0).then_some(Each { call_ns: 2e3, remap_ns: 3e3, thread_ns: 4e3 });
        let messages_per_second = model(10.0, r, c_ns);
        Sample { messages_per_second, times_per_second: r, thread_share: r * 4e-6, each }
    }

    fn trial(r: f64) -> Trial {
        let turn = || Turn { remapping: sample(r, 5e3), control: sample(r, 4e3) };
        Trial { kind: Kind::Unrelated, rate: Rate::PerSecond(r as u32), rounds: vec![turn(), turn(), turn()] }
    }

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() <= 1e-6 * other.abs()
    }

    #[test]
    fn a_second_is_shared_between_messages_and_remaps() {
        assert_eq!(model(10.0, 0.0, 5e3), 1e8);
        assert!(close(model(10.0, 100e3, 5e3), 5e7));
        assert!(close(model(10.0, 200e3, 5e3) + 1.0, 1.0));
    }

    #[test]
    fn the_slope_is_that_of_the_nearest_line_through_zero() {
        assert_eq!(slope(&[(1.0, 2.0), (3.0, 6.0)]), Some(2.0));
        assert_eq!(slope(&[(1.0, 0.0), (2.0, 5.0)]), Some(2.0));
        assert_eq!(slope(&[]), None);
    }

    #[test]
    fn a_stream_that_follows_the_model_gives_its_c_back() {
        let (trials, times) = ([trial(1e3), trial(50e3)], [10.0; 3]);
        let mut rows: Vec<Row> = trials.iter().map(|trial| Row::new(trial, &times).unwrap()).collect();
        let found = [Interruption { nanoseconds: 1e3, remaps_per_second: 1e4 }];
        let costs = Costs::of(Kind::Unrelated, &trials, &rows, &times, &found).unwrap().unwrap();
        assert!(close(costs.loss_ns.median, 5e3), "{costs:?}");
        assert!(close(costs.alone_ns.median, 1e3), "{costs:?}");
        for (row, trial) in rows.iter_mut().zip(&trials) {
            assert!(close(row.c_loss_ns.unwrap().median, 5e3), "{row:?}");
            assert!(close(row.c_alone_ns.unwrap().median, 1e3), "{row:?}");
            row.add_models(10.0, Some(&costs), true);
            row.add_paired_ratios(trial, &times).unwrap();
            let found: Vec<(Meaning, f64)> = row.models.iter().map(|model| (model.c, model.c_ns)).collect();
            assert_eq!(found[..2], [(Meaning::Call, 2e3), (Meaning::Thread, 4e3)]);
            let loss = row.models.last().unwrap();
            assert!(close(loss.ratio.unwrap(), 1.0) && close(loss.paired_ratio.unwrap().median, 1.0), "{loss:?}");
        }
    }

    #[test]
    fn the_time_of_a_thread_on_its_own_processor_is_no_cost_of_the_stream() {
        let mut row = Row::new(&trial(1e3), &[10.0; 3]).unwrap();
        row.add_models(10.0, None, false);
        assert!(row.models.iter().all(|model| model.c != Meaning::Thread));
    }

    #[test]
    fn without_remaps_there_is_no_c_and_the_model_is_one_message_after_the_other() {
        let trials = [trial(0.0)];
        let mut row = Row::new(&trials[0], &[10.0; 3]).unwrap();
        assert!(row.c_call_ns.is_none() && row.c_loss_ns.is_none());
        assert!(Costs::of(Kind::Unrelated, &trials, &[], &[10.0; 3], &[]).unwrap().is_none());
        row.add_models(10.0, None, true);
        assert!(row.models.iter().all(|model| model.messages_per_second == 1e8));
    }

    #[test]
    fn a_model_that_leaves_no_time_for_messages_has_no_ratio() {
        let mut row = Row::new(&trial(50e3), &[10.0; 3]).unwrap();
        row.remaps_per_second.median = 1e9;
        row.add_models(10.0, None, true);
        assert!(row.models[0].messages_per_second < 0.0 && row.models[0].ratio.is_none());
    }
}
