//! A script of operations on both halves of a ring, with the peer's blows in between and under open guards.
//!
//! Promise: after every step what came out lies inside the ring's data and every loop over memory that stands still came to
//! an end. As long as no blow has fallen, what comes out is also what went in. Refusal: it does not judge which error
//! a blow leads to.

use crate::peer::{Aim, Blow, Length, Shared, Value};
use arbitrary::{Arbitrary, Unstructured};
use ipc_core::doorbell::Barrier;
use ipc_core::layout::{HEADER, max_record};
use ipc_core::ring::{Consumer, Producer, ReserveError, RingMemory, Violation};
use std::collections::VecDeque;

/// A payload: one word over and over, which may look like a header.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Payload {
    length: Length,
    word: Value,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    Blow(Blow),
    Push(Payload),
    Reserve {
        payload: Payload,
        while_open: Option<Blow>,
        through_pointer: bool,
        commit: bool,
    },
    Batch {
        records: u8,
        payload: Payload,
        in_the_middle: Option<Blow>,
        commit: bool,
    },
    Read {
        offset: u16,
        length: Length,
        while_open: Option<Blow>,
    },
    ReadBatch {
        limit: u8,
        in_the_middle: Option<Blow>,
    },
    ReadAll,
    Flush,
    Look,
    Undelivered,
    Doze {
        producer: bool,
        wake: bool,
    },
    Wait {
        polls: u8,
    },
    Leave {
        producer: bool,
        politely: bool,
    },
    /// The halves are made anew, over whatever is there.
    Remake,
}

impl Step {
    /// The same between two sides that keep to the rules and stay.
    fn in_peace(mut self) -> Self {
        match &mut self {
            Self::Reserve { while_open: blow, .. }
            | Self::Batch { in_the_middle: blow, .. }
            | Self::Read { while_open: blow, .. }
            | Self::ReadBatch { in_the_middle: blow, .. } => *blow = None,
            Self::Blow(_) | Self::Leave { .. } | Self::Remake => return Self::Look,
            _ => {}
        }
        self
    }
}

/// How the two sides treat each other.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    Peace,
    War,
    /// War without endings: neither side leaves, so that scripts get far.
    LongWar,
}

/// One of the doorbell's barriers.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Fences {
    Polling,
    Full,
    Asymmetric,
}

impl Fences {
    fn barrier(self) -> Barrier {
        match self {
            Self::Polling => Barrier::Polling,
            Self::Full => Barrier::Fence,
            Self::Asymmetric => Barrier::Asymmetric { heavy: || () },
        }
    }
}

/// Length and word of what was sent and not yet consumed, while nobody has broken the rules.
type Queue = Option<VecDeque<(usize, u64)>>;

/// A ring under attack.
pub struct World<'a> {
    shared: Shared,
    ring: RingMemory<'a>,
    /// Address of the data area as the halves see it.
    data: usize,
    barrier: Barrier,
    producer: Producer<'a>,
    consumer: Consumer<'a>,
    aim: Aim,
    queue: Queue,
    scratch: Vec<u8>,
}

impl<'a> World<'a> {
    /// Both halves of `ring`, whose data lies at address `data` and which the peer sees as `shared`. `honest` says that the
    /// memory is a ring's that was never used.
    ///
    /// # Safety
    /// There are no other halves of this ring.
    pub unsafe fn new(ring: RingMemory<'a>, data: usize, shared: Shared, fences: Fences, honest: bool) -> Self {
        let barrier = fences.barrier();
        // SAFETY: one of each, by the caller's promise.
        let (producer, consumer) = unsafe { (ring.producer(barrier), ring.consumer(barrier)) };
        let queue = honest.then(VecDeque::new);
        let aim = Aim { head: shared.head(), tail_index: shared.head() % ring.capacity() };
        let scratch = vec![0; max_record(ring.capacity()) as usize + 256];
        Self { shared, ring, data, barrier, producer, consumer, aim, queue, scratch }
    }

    /// Takes steps from the input, at most so many, until it is used up.
    pub fn play(&mut self, input: &mut Unstructured<'_>, steps: usize, manners: Manners) {
        for _ in 0..steps {
            if input.is_empty() {
                return;
            }
            let Ok(step) = Step::arbitrary(input) else { return };
            self.step(match (manners, step) {
                (Manners::Peace, step) => step.in_peace(),
                (Manners::LongWar, Step::Leave { .. }) => Step::Look,
                (_, step) => step,
            });
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Blow(blow) => self.strike(Some(blow)),
            Step::Push(payload) => self.push(payload),
            Step::Reserve { payload, while_open, through_pointer, commit } => {
                self.reserve(payload, while_open, through_pointer, commit);
            }
            Step::Batch { records, payload, in_the_middle, commit } => {
                self.batch(records, payload, in_the_middle, commit);
            }
            Step::Read { offset, length, while_open } => self.read(offset.into(), length, while_open),
            Step::ReadBatch { limit, in_the_middle } => self.read_batch(limit.into(), in_the_middle),
            Step::ReadAll => self.read_batch(u64::MAX, None),
            Step::Flush => {
                let _ = self.consumer.flush_credit();
            }
            Step::Look => self.look(),
            Step::Undelivered => self.undelivered(),
            Step::Doze { producer, wake } => self.doze(producer, wake),
            Step::Wait { polls } => {
                (0..polls % 80).for_each(|_| self.consumer.keep_distance());
                let _ = (self.producer.exchange_processor(polls.into()), self.consumer.exchange_processor(u32::MAX));
            }
            Step::Leave { producer: true, politely: true } => self.producer.close(),
            Step::Leave { producer: true, politely: false } => self.producer.mark_gone(),
            Step::Leave { producer: false, .. } => self.consumer.close(),
            Step::Remake => {
                self.queue = None;
                // SAFETY: the halves that are there are replaced and not used again.
                (self.producer, self.consumer) =
                    unsafe { (self.ring.producer(self.barrier), self.ring.consumer(self.barrier)) };
            }
        }
    }

    /// The peer writes a word, if it does.
    pub fn strike(&mut self, blow: Option<Blow>) {
        if let Some(blow) = blow {
            self.shared.strike(blow, self.aim);
            self.distrust();
        }
    }

    /// From here on nothing is expected of what comes out, but that it is inside.
    pub fn distrust(&mut self) {
        self.queue = None;
    }

    fn push(&mut self, payload: Payload) {
        let (len, word) = self.fill(payload);
        match self.producer.try_push(&self.scratch[..len]) {
            Ok(()) => self.sent(&[(len, word)]),
            Err(refusal) => self.refused(refusal, len),
        }
    }

    fn reserve(&mut self, payload: Payload, while_open: Option<Blow>, through_pointer: bool, commit: bool) {
        let (len, word) = self.fill(payload);
        let mut record = match self.producer.try_reserve(len) {
            Ok(record) => record,
            Err(refusal) => return self.refused(refusal, len),
        };
        let first = record.as_mut_ptr();
        assert!(record.len() == len && inside(self.data, self.ring.capacity(), first, len));
        self.aim.tail_index = (first.addr() - self.data) as u64 - HEADER;
        if let Some(blow) = while_open {
            self.shared.strike(blow, self.aim);
            self.queue = None;
        }
        if through_pointer {
            // SAFETY: as many bytes as were reserved.
            unsafe { first.copy_from_nonoverlapping(self.scratch.as_ptr(), len) };
        } else {
            let half = len / 2;
            record.write_at(half, &self.scratch[half..len]);
            record.write_at(0, &self.scratch[..half]);
            if half % 8 != 0 {
                record.write_at(0, &self.scratch[..len]);
            }
        }
        if commit {
            record.commit();
            self.sent(&[(len, word)]);
        }
    }

    fn batch(&mut self, records: u8, payload: Payload, in_the_middle: Option<Blow>, commit: bool) {
        let (len, word) = self.fill(payload);
        if in_the_middle.is_some() {
            self.queue = None;
        }
        let mut sent = Vec::new();
        let mut refused = None;
        let mut batch = self.producer.batch();
        for record in 0..records % 40 {
            if let Some(blow) = in_the_middle.filter(|_| record == records % 40 / 2) {
                self.shared.strike(blow, self.aim);
            }
            // Lengths differ a little, so that headers come to lie everywhere.
            let len = len.saturating_sub(usize::from(record));
            match batch.push(&self.scratch[..len]) {
                Ok(()) => sent.push((len, word)),
                Err(refusal) => refused = Some((refusal, len)),
            }
        }
        assert_eq!(batch.len(), sent.len() as u64);
        if commit {
            batch.commit();
            self.sent(&sent);
        }
        if let Some((refusal, len)) = refused {
            self.refused(refusal, len);
        }
    }

    fn read(&mut self, offset: usize, length: Length, while_open: Option<Blow>) {
        if while_open.is_some() {
            self.queue = None;
        }
        let capacity = self.ring.capacity();
        let asked = length.bytes(capacity) as usize;
        let record = match self.consumer.try_read() {
            Ok(Some(record)) => record,
            Ok(None) => return assert!(self.queue.as_ref().is_none_or(VecDeque::is_empty), "a message is missing"),
            Err(violation) => return violated(&self.queue, violation),
        };
        let len = record.len();
        assert!(inside(self.data, capacity, record.as_ptr(), len) && len as u64 <= max_record(capacity));
        if let Some(blow) = while_open {
            self.shared.strike(blow, self.aim);
        }
        let part = record.read_at(offset, &mut self.scratch[..asked]);
        assert_eq!(part.is_ok(), offset + asked <= len, "{asked} bytes at {offset} of {len}");
        assert_eq!(record.read_at(0, &mut self.scratch[..len]), Ok(()));
        drop(record);
        if let Some(queue) = &mut self.queue {
            let (sent, word) = queue.pop_front().expect("a message that was never sent");
            assert_eq!(sent, len);
            assert!(is_filled(&self.scratch[..len], word), "a message that is not what was sent");
        }
        self.consumed();
    }

    fn read_batch(&mut self, limit: u64, in_the_middle: Option<Blow>) {
        if in_the_middle.is_some() {
            self.queue = None;
        }
        let capacity = self.ring.capacity();
        let mut broken = None;
        let mut batch = self.consumer.read_batch();
        for taken in 0..limit {
            // A record fills a word at least, and no word is the header of two laps.
            assert!(in_the_middle.is_some() || taken <= capacity / HEADER, "reading does not come to an end");
            if let Some(blow) = in_the_middle.filter(|_| taken == limit / 2) {
                self.shared.strike(blow, self.aim);
            }
            match batch.try_next() {
                Ok(Some((first, len))) => {
                    assert!(inside(self.data, capacity, first, len) && len as u64 <= max_record(capacity));
                    // SAFETY: the batch says that they can be read; the scratch is longer than the longest record.
                    unsafe { first.copy_to_nonoverlapping(self.scratch.as_mut_ptr(), len) };
                    if let Some(queue) = &mut self.queue {
                        let (sent, word) = queue.pop_front().expect("a message that was never sent");
                        assert!(sent == len && is_filled(&self.scratch[..len], word));
                    }
                }
                Ok(None) => break,
                Err(violation) => {
                    broken = Some(violation);
                    break;
                }
            }
        }
        drop(batch);
        if let Some(violation) = broken {
            violated(&self.queue, violation);
        }
        self.consumed();
    }

    fn look(&mut self) {
        let status = self.ring.status();
        assert!(status.used <= status.capacity && status.capacity == self.ring.capacity());
        if let Some(queue) = &self.queue {
            assert_eq!(status.sent - status.received, queue.len() as u64);
            assert_eq!((status.sent, status.received), (self.producer.messages(), self.consumer.messages()));
            // The other way round does not hold: padding behind which nothing was committed looks ready, too.
            assert!(self.consumer.is_ready() || queue.is_empty());
        }
        let _ = (self.producer.has_room(), self.producer.take_stalled(), self.producer.take_wake());
        let _ = (self.consumer.is_ready(), self.consumer.take_wake());
        let _ = (self.producer.is_peer_closed(), self.consumer.is_peer_closed());
    }

    fn undelivered(&mut self) {
        let capacity = self.ring.capacity();
        let mut undelivered = match self.producer.undelivered() {
            Ok(undelivered) => undelivered,
            Err(violation) => return violated(&self.queue, violation),
        };
        let count = undelivered.count();
        let mut taken = 0;
        let broken = loop {
            assert!(taken <= capacity / HEADER, "what was left unread does not come to an end");
            match undelivered.try_next() {
                Ok(Some((first, len))) => {
                    assert!(inside(self.data, capacity, first, len));
                    // SAFETY: they can be read while the producer publishes nothing; the scratch is longer.
                    unsafe { first.copy_to_nonoverlapping(self.scratch.as_mut_ptr(), len) };
                    taken += 1;
                }
                Ok(None) => break None,
                Err(violation) => break Some(violation),
            }
        };
        assert_eq!(count, broken.map_or(Ok(taken), Err), "memory that stands still is counted as it is read");
        if let Some(queue) = &self.queue {
            assert_eq!(count, Ok(queue.len() as u64));
        }
    }

    fn doze(&mut self, producer: bool, wake: bool) {
        match (producer, wake) {
            (true, false) => self.producer.raise(),
            (true, true) => self.producer.lower(),
            (false, false) => self.consumer.raise(),
            (false, true) => self.consumer.lower(),
        }
    }

    /// Writes a payload into the scratch memory, and returns its length and word.
    fn fill(&mut self, payload: Payload) -> (usize, u64) {
        let len = payload.length.bytes(self.ring.capacity()) as usize;
        let word = payload.word.resolve(self.ring.capacity(), self.aim);
        self.scratch.chunks_mut(8).take(len.div_ceil(8)).for_each(|chunk| {
            let bytes = word.to_ne_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        });
        (len, word)
    }

    fn sent(&mut self, messages: &[(usize, u64)]) {
        if let Some(queue) = &mut self.queue {
            queue.extend(messages);
        }
    }

    fn consumed(&mut self) {
        // Just written by the consumer, unless it consumed nothing; then it is a guess as good as any.
        self.aim.head = self.shared.head();
    }

    fn refused(&self, refusal: ReserveError, len: usize) {
        assert!(!refusal.to_string().is_empty());
        match refusal {
            ReserveError::TooLarge { max, .. } => assert!(len as u64 > max),
            ReserveError::Full { needed, free } => assert!(needed > free),
            ReserveError::Violation(violation) => violated(&self.queue, violation),
            _ => {}
        }
    }
}

fn violated(queue: &Queue, violation: Violation) {
    assert!(queue.is_none(), "nobody broke the rules: {violation}");
    assert!(!violation.to_string().is_empty());
}

/// Says whether `len` bytes from `first` lie in the `capacity` bytes at address `data`.
fn inside(data: usize, capacity: u64, first: *const u8, len: usize) -> bool {
    first.addr() >= data && first.addr() + len <= data + capacity as usize
}

fn is_filled(payload: &[u8], word: u64) -> bool {
    payload.chunks(8).all(|chunk| *chunk == word.to_ne_bytes()[..chunk.len()])
}
