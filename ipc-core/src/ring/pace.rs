//! How far a polling consumer stays behind a streaming producer.
//!
//! When the two run in lock-step, each message pays the full transfer of its line between two cores, and each poll
//! takes the line away from the producer that is about to write it. A consumer that stays some messages behind
//! finds lines that are already on their way (measured: 8 ns instead of 20 ns for each 64-byte message).
//! But a consumer that dawdles adds its pause to every round trip. So the pause is learnt: it is kept
//! only while the run of messages found after it shows that the producer streams.

/// Pauses after an empty poll that a stream is tried with first.
const FIRST_LAG: u32 = 16;
/// The most pauses after an empty poll: the 64-byte stream gains nothing beyond.
const MAX_LAG: u32 = 64;
/// A run at least this long after a pause shows a stream; one below half of it shows a conversation.
const STREAM_RUN: u64 = 8;
/// Empty polls between two trials: at first, and at most after trials that found no stream.
const FIRST_TRIAL: u32 = 32;
const MAX_TRIAL: u32 = 4096;

/// Learns from the runs between empty polls how long to pause after the next one.
#[derive(Debug)]
pub(super) struct Pace {
    /// Messages consumed when the ring was last found empty.
    mark: u64,
    /// Pauses after an empty poll.
    lag: u32,
    /// Empty polls until the next trial, while `lag` is 0.
    countdown: u32,
    /// Empty polls from the last trial to the next.
    trial: u32,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { mark: 0, lag: 0, countdown: FIRST_TRIAL, trial: FIRST_TRIAL }
    }

    /// The ring was found empty after `messages` in all: how many pauses to take before looking again.
    pub(super) fn on_empty(&mut self, messages: u64) -> u32 {
        let run = messages - self.mark;
        self.mark = messages;
        if self.lag == 0 {
            self.countdown -= 1;
            if self.countdown == 0 {
                self.lag = FIRST_LAG;
            }
        } else if run >= STREAM_RUN {
            self.lag = (self.lag * 2).min(MAX_LAG);
            self.trial = FIRST_TRIAL;
        } else if run < STREAM_RUN / 2 {
            self.lag = 0;
            self.trial = (self.trial * 2).min(MAX_TRIAL);
            self.countdown = self.trial;
        }
        self.lag
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// Total pauses taken over `turns` runs of `run` messages.
    fn pauses(pace: &mut Pace, run: u64, turns: u64) -> u64 {
        let start = pace.mark;
        (1..=turns).map(|turn| u64::from(pace.on_empty(start + turn * run))).sum()
    }

    #[test]
    fn a_conversation_pays_less_than_one_pause_in_twenty_turns() {
        let mut pace = Pace::new();
        assert!(pauses(&mut pace, 1, 100_000) < 100_000 / 20);
    }

    #[test]
    fn a_stream_is_found_and_kept_behind() {
        let mut pace = Pace::new();
        pauses(&mut pace, 1, 100_000);
        pauses(&mut pace, 10, u64::from(MAX_TRIAL) + 8);
        assert_eq!(pace.lag, MAX_LAG);
    }

    #[test]
    fn the_end_of_a_stream_ends_the_pause_at_once() {
        let mut pace = Pace::new();
        pauses(&mut pace, 10, 100);
        assert_eq!(pace.lag, MAX_LAG);
        pauses(&mut pace, 1, 1);
        assert_eq!(pace.lag, 0);
    }
}
