//! When a receiver that sleeps is woken, if the sender puts that off: at so many messages, or after a delay.
//!
//! Promise: a message that is published to a sleeping receiver wakes it within the delay, also if the sender stops or dies once it
//! has set the timer; and a ticket costs one timer and one ring at most. Refusal: nothing is held back. Messages are visible at
//! once, and a receiver that is awake notices nothing of this.
//!
//! # Protocol
//!
//! It extends that of [`crate::doorbell`] by a timer that both sides hold. The receiver sleeps on its socket and on the timer.
//!
//! | sleeping side | publishing side |
//! |---|---|
//! | raise the ticket, \[D1\], look again, sleep | publish, \[D2\], read the ticket |
//! | | raised, fewer than N messages wait, first look at this ticket: set the timer \[T1\] |
//! | | raised, fewer than N messages wait, timer set for this ticket: nothing |
//! | | raised, N messages wait: ring, once for this ticket |
//! | woken: clear the timer \[T2\], withdraw the ticket, look | |
//!
//! No wake-up is lost. Take a message that a receiver sleeping with ticket t does not see. As without a timer, \[D1\] and \[D2\] see
//! to it that the sender, after publishing the message, read ticket t (or it would have been seen). Then it rang for t, or it set the
//! timer while it knew t. That setting stands until the sleep with t is over: the receiver clears the timer \[T2\] only after a sleep and
//! before it raises the next ticket; the sender sets it again only once it has read a later ticket, which is raised after the sleep. So the timer
//! fires at most the delay after the first message that t was told of.
//!
//! The receiver may wake by itself, at a deadline or for another event, and sleep again with ticket t + 1. Whatever was put off for t is
//! void then: the receiver has looked after raising t + 1. What is published later finds t + 1, for which no timer is set, and sets it. A
//! sender that was slow may set the timer for t after all that. It costs one wake-up in vain, and the next message found with t + 1 sets it anew.
//!
//! The timer is never cleared by the sender: the receiver, once awake, does it anyway. If the sender is stopped between a publication and the call that
//! follows it, ring or setting, the receiver sleeps on until it goes on. That is so without a timer too. If it is killed there, its socket wakes the receiver.

use super::Sender;
use super::lanes::Lanes;
use crate::error::SendError;
use crate::link::Link;
use crate::message::Trust;
use crate::ring::Producer;
use std::time::Duration;

/// How far waking is put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coalescing {
    /// Messages that are worth a ring. At least two.
    messages: u64,
    /// The longest that a message may wait. Not zero.
    delay: Duration,
}

impl Coalescing {
    /// `None` if these values put nothing off.
    pub(crate) fn new(messages: u64, delay: Duration) -> Option<Self> {
        (messages > 1 && !delay.is_zero()).then_some(Self { messages, delay })
    }
}

/// What is to be done about a message that was published to a sleeping receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Ring. The ticket is answered.
    Ring,
    /// Set the timer.
    Set,
    /// Nothing: the timer is set.
    Wait,
}

/// Which ticket the timer is set for.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    /// 0 if none: no ticket that is raised is 0.
    ticket: u64,
}

impl Deferred {
    /// The step for a receiver that sleeps with `ticket` while `waiting` messages wait for it.
    fn step(&mut self, limit: u64, ticket: u64, waiting: u64) -> Step {
        if waiting >= limit {
            self.ticket = 0;
            Step::Ring
        } else if self.ticket == ticket {
            Step::Wait
        } else {
            self.ticket = ticket;
            Step::Set
        }
    }

    /// Forgets what is put off; says whether anything was.
    fn take(&mut self) -> bool {
        core::mem::take(&mut self.ticket) != 0
    }

    /// Says whether a ring that is due now is put off, and sees to it that the receiver wakes in time.
    pub(super) fn defers(&mut self, link: &Link, producer: &mut Producer<'static>) -> bool {
        let Some((coalescing, timer)) = &link.coalescing else { return false };
        // The receiver says how many it has consumed before it raises a ticket. A count that is older than that, or a lie, makes for an
        // early ring or a late one, but none later than the timer.
        let waiting = producer.messages().saturating_sub(producer.consumed());
        let defers = match self.step(coalescing.messages, producer.ticket_to_wake(), waiting) {
            Step::Ring => false,
            Step::Wait => true,
            // [T1] the setting comes after the ticket was read; pairs with [T2] in os/bell.rs.
            Step::Set => timer.set(coalescing.delay).is_ok(),
        };
        if defers {
            producer.defer_wake();
        } else {
            self.ticket = 0;
        }
        defers
    }
}

impl Lanes {
    /// Rings now, if that was put off and the receiver still sleeps.
    pub(super) fn ring_deferred(&mut self, link: &Link, producer: &mut Producer<'static>) {
        if self.deferred.take() && producer.call_consumer() && !link.messages.ring() {
            producer.mark_gone();
        }
    }
}

impl<T: Trust> Sender<T> {
    /// Wakes the receiver now, if it sleeps and waking it was put off
    /// ([`ConnectOptions::coalesce`](crate::ConnectOptions::coalesce)). For the end of a burst, and before waiting for an answer.
    ///
    /// # Errors
    /// [`SendError::Violation`] and [`SendError::Forked`].
    ///
    /// # Examples
    /// ```no_run
    /// use std::time::Duration;
    /// let options = ipc_core::ConnectOptions::new().coalesce(32, Duration::from_millis(1));
    /// let mut client = options.connect("sensors")?;
    /// client.send(b"how warm is it?")?;
    /// client.sender().flush()?;
    /// let answer = client.recv()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn flush(&mut self) -> Result<(), SendError> {
        self.check()?;
        self.lanes.ring_deferred(&self.link, &mut self.producer);
        Ok(())
    }
}

#[cfg(all(test, loom))]
mod models;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_message_or_no_delay_puts_nothing_off() {
        let second = Duration::from_secs(1);
        assert_eq!(Coalescing::new(0, second), None);
        assert_eq!(Coalescing::new(1, second), None);
        assert_eq!(Coalescing::new(2, Duration::ZERO), None);
        assert_eq!(Coalescing::new(2, second), Some(Coalescing { messages: 2, delay: second }));
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Publish(u64),
        /// The receiver takes everything and goes to sleep.
        Sleep,
        /// A deadline wakes it.
        Wake,
        /// The timer fires, if it is set.
        Fire,
        Flush,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (1_u64..6).prop_map(Event::Publish),
            2 => Just(Event::Sleep),
            1 => Just(Event::Wake),
            1 => Just(Event::Fire),
            1 => Just(Event::Flush),
        ]
    }

    proptest! {
        #[test]
        fn a_sleeper_with_messages_is_rung_or_has_a_timer_once_a_ticket(
            events in proptest::collection::vec(event(), 1..60), limit in 2_u64..8
        ) {
            let mut deferred = Deferred::default();
            // The ticket that the receiver sleeps with, and the one that the sender has answered.
            let (mut raised, mut asleep, mut answered) = (0, false, 0);
            let (mut waiting, mut set, mut rung) = (0, false, false);
            let (mut sets, mut rings) = (0, 0);
            for event in events {
                match event {
                    Event::Publish(messages) => {
                        waiting += messages;
                        if asleep && answered != raised {
                            match deferred.step(limit, raised, waiting) {
                                Step::Ring => (rung, rings, answered) = (true, rings + 1, raised),
                                Step::Set => (set, sets) = (true, sets + 1),
                                Step::Wait => {}
                            }
                        }
                    }
                    Event::Flush if deferred.take() && asleep && answered != raised => {
                        (rung, rings, answered) = (true, rings + 1, raised);
                    }
                    Event::Sleep if !asleep => {
                        raised += 1;
                        (asleep, waiting, sets, rings) = (true, 0, 0, 0);
                    }
                    Event::Fire if !set => {}
                    Event::Wake | Event::Fire => (asleep, set) = (false, false),
                    Event::Sleep | Event::Flush => {}
                }
                if asleep {
                    prop_assert!(waiting == 0 || set || rung, "{waiting} messages wait for ever");
                    prop_assert!(waiting < limit || rung, "{waiting} messages wait for the timer");
                    prop_assert!(sets <= 1 && rings <= 1, "{sets} timers and {rings} rings for one ticket");
                }
                if rung {
                    (asleep, set, rung) = (false, false, false);
                }
            }
        }
    }
}
