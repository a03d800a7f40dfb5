//! The ring, its doorbell and its end under every order that the memory model allows, found by loom.
//!
//! Each model is explored whole up to three preemptions (`LOOM_MAX_PREEMPTIONS` sets another bound). Beside the ring's own words, a model
//! keeps a [`Line`] for each line of the data, which panics when one side touches it while the other may: that is
//! how a missing happens-before shows even where loom would never return the wrong bytes. Not modelled: a
//! load that returns what another thread stores only later (loom runs each thread in program order); the lines stand in.

use super::{Consumer, Producer, ReserveError, RingMemory, Undelivered};
use crate::doorbell::{Barrier, Call, Sleeper, Waker};
use crate::layout::{ConsumerProgress, ConsumerSignals, Control, HEADER, Header, ProducerSignals};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use crossbeam_utils::CachePadded;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::boxed::Box;
use std::ptr::NonNull;
use std::vec::Vec;

/// Bytes that a header and the 56 bytes of a model's record fill.
const LINE: u64 = 64;
/// Four lines and records of up to 56 bytes. Records that fill a line never need padding here.
const SMALL: u64 = 4 * LINE;
/// Eight lines and records of up to 120 bytes: two lines, so that one may have to go over the end.
const WIDE: u64 = 8 * LINE;

/// What a producer writes and a consumer reads in one line, watched by loom.
struct Line(UnsafeCell<u64>);

/// A ring in loom's memory.
struct Model {
    control: Box<Control>,
    words: Box<[AtomicU64]>,
    lines: Vec<Line>,
}

// SAFETY: the words are atomics; loom watches the lines and fails where this would be wrong.
unsafe impl Sync for Model {}
// SAFETY: as above.
unsafe impl Send for Model {}

impl Model {
    /// A ring of `capacity` bytes that begins at `start`, in memory where each word held `old` before.
    fn starting_at(capacity: u64, start: u64, old: u64) -> Arc<Self> {
        let word = || AtomicU64::new(0);
        let flag = || AtomicU32::new(0);
        let control = Box::new(Control {
            producer_signals: CachePadded::new(ProducerSignals { ticket: word(), processor: flag() }),
            consumer: CachePadded::new(ConsumerProgress { head: word() }),
            consumer_signals: CachePadded::new(ConsumerSignals {
                credit: word(),
                messages: word(),
                ticket: word(),
                processor: flag(),
            }),
        });
        let words = (0..capacity / HEADER).map(|_| AtomicU64::new(old)).collect();
        let lines = (0..capacity / LINE).map(|_| Line(UnsafeCell::new(0))).collect();
        let model = Arc::new(Self { control, words, lines });
        // SAFETY: no half exists yet.
        unsafe { model.ring().reset(start) };
        model
    }

    fn new(capacity: u64) -> Arc<Self> {
        Self::starting_at(capacity, 0, 0)
    }

    /// The view has no lifetime of its own, so that halves can move to threads, which keep the model by its `Arc`.
    fn ring(&self) -> RingMemory<'static> {
        let data = NonNull::from(&*self.words).cast();
        // SAFETY: the words are the data; they and the control block live as long as the model, which every thread with
        // a half holds.
        unsafe { RingMemory::from_parts(NonNull::from(&*self.control), data, self.words.len() as u64 * HEADER) }
    }

    fn producer(&self, barrier: Barrier) -> Producer<'static> {
        // SAFETY: each model makes one.
        unsafe { self.ring().producer(barrier) }
    }

    fn consumer(&self, barrier: Barrier) -> Consumer<'static> {
        // SAFETY: each model makes one.
        unsafe { self.ring().consumer(barrier) }
    }

    /// The producer owns the line of record `number`, one a line.
    fn fill_line(&self, number: u64) {
        // SAFETY: loom checks that nobody else is there.
        self.lines[number as usize % self.lines.len()].0.with_mut(|line| unsafe { *line = number });
    }

    /// The consumer owns it.
    fn check_line(&self, number: u64) {
        // SAFETY: loom checks that nobody writes it.
        self.lines[number as usize % self.lines.len()].0.with(|line| assert_eq!(unsafe { *line }, number));
    }
}

/// A payload of `words` words that all hold `value`.
fn payload(value: u64, words: usize) -> Vec<u8> {
    std::iter::repeat_n(value.to_ne_bytes(), words).flatten().collect()
}

/// Writes record `number` into the ring and into its line.
fn send(model: &Model, producer: &mut Producer<'_>, number: u64) -> Result<(), ReserveError> {
    let mut record = producer.try_reserve(56)?;
    model.fill_line(number);
    record.write_at(0, &payload(number, 7));
    record.commit();
    Ok(())
}

/// Reads a record that must be number `number`, whole. `false` if there is none.
fn receive(model: &Model, consumer: &mut Consumer<'_>, number: u64) -> bool {
    let Some(record) = consumer.try_read().expect("an honest producer") else { return false };
    model.check_line(number);
    let mut bytes = [0; 56];
    assert_eq!(record.len(), 56);
    assert_eq!(record.read_at(0, &mut bytes), Ok(()));
    assert_eq!(bytes[..], payload(number, 7));
    true
}

/// The words of the next record, or `None`.
fn read_words(consumer: &mut Consumer<'_>) -> Option<Vec<u8>> {
    let record = consumer.try_read().expect("an honest producer")?;
    let mut bytes = std::vec![0; record.len()];
    record.read_at(0, &mut bytes).expect("as long as the record");
    Some(bytes)
}

fn explore(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(body);
}

#[test]
fn published_records_are_seen_whole_and_in_order() {
    explore(|| {
        let model = Model::new(SMALL);
        let writer = model.clone();
        let writing = thread::spawn(move || {
            let mut producer = writer.producer(Barrier::Polling);
            for number in 0..2 {
                send(&writer, &mut producer, number).expect("room");
            }
        });
        let mut consumer = model.consumer(Barrier::Polling);
        let mut next = 0;
        for _ in 0..2 {
            next += u64::from(receive(&model, &mut consumer, next));
        }
        writing.join().expect("the writer ends");
        while receive(&model, &mut consumer, next) {
            next += 1;
        }
        assert_eq!(next, 2);
    });
}

#[test]
fn a_record_that_does_not_fit_the_end_of_the_area_is_seen_whole_after_it() {
    explore(|| {
        let model = Model::starting_at(WIDE, WIDE - LINE, u64::MAX);
        let writer = model.clone();
        let writing = thread::spawn(move || {
            let mut producer = writer.producer(Barrier::Polling);
            assert_eq!(producer.try_push(&payload(7, 10)), Ok(()));
        });
        let mut consumer = model.consumer(Barrier::Polling);
        let early = read_words(&mut consumer);
        writing.join().expect("the writer ends");
        let found = early.or_else(|| read_words(&mut consumer));
        assert_eq!(found, Some(payload(7, 10)));
        assert_eq!(read_words(&mut consumer), None);
    });
}

#[test]
fn a_batch_is_seen_whole_or_not_at_all() {
    explore(|| {
        // Two records share the last line of the area, the third comes after padding that belongs to the batch.
        let model = Model::starting_at(SMALL, SMALL - LINE, 0);
        let messages = || [payload(1, 1), payload(2, 1), payload(3, 5)];
        let writer = model.clone();
        let writing = thread::spawn(move || {
            let mut producer = writer.producer(Barrier::Polling);
            let mut batch = producer.batch();
            for message in messages() {
                assert_eq!(batch.push(&message), Ok(()));
            }
            batch.commit();
        });
        let [first, second, third] = messages();
        let mut consumer = model.consumer(Barrier::Polling);
        let seen = read_words(&mut consumer);
        if seen.is_none() {
            writing.join().expect("the writer ends");
            assert_eq!(read_words(&mut consumer), Some(first));
        } else {
            assert_eq!(seen, Some(first));
        }
        assert_eq!(read_words(&mut consumer), Some(second));
        assert_eq!(read_words(&mut consumer), Some(third));
        assert_eq!(read_words(&mut consumer), None);
    });
}

#[test]
fn nothing_of_an_aborted_record_or_batch_is_seen() {
    explore(|| {
        let model = Model::new(SMALL);
        let writer = model.clone();
        let writing = thread::spawn(move || {
            let mut producer = writer.producer(Barrier::Polling);
            let mut batch = producer.batch();
            // The second header comes where the published record ends, which is where the consumer polls then.
            assert_eq!(batch.push(&payload(1, 7)), Ok(()));
            assert_eq!(batch.push(&payload(2, 1)), Ok(()));
            drop(batch);
            producer.try_reserve(8).expect("room").write_at(0, &payload(3, 1));
            assert_eq!(producer.try_push(&payload(4, 7)), Ok(()));
        });
        let mut consumer = model.consumer(Barrier::Polling);
        let early = read_words(&mut consumer);
        if early.is_some() {
            assert_eq!(read_words(&mut consumer), None);
        }
        writing.join().expect("the writer ends");
        assert_eq!(early.or_else(|| read_words(&mut consumer)), Some(payload(4, 7)));
        assert_eq!(read_words(&mut consumer), None);
    });
}

#[test]
fn a_word_that_looks_like_the_next_header_is_gone_before_it_is_polled() {
    explore(|| {
        let model =
            Model::starting_at(SMALL, 0, Header::record(Header::stamp_of_lap(0), 8, crate::layout::Mark::Plain).bits());
        let writer = model.clone();
        let writing = thread::spawn(move || {
            let mut producer = writer.producer(Barrier::Polling);
            assert_eq!(producer.try_push(&payload(1, 1)), Ok(()));
        });
        let mut consumer = model.consumer(Barrier::Polling);
        let early = read_words(&mut consumer);
        if early.is_some() {
            assert_eq!(read_words(&mut consumer), None);
        }
        writing.join().expect("the writer ends");
        assert_eq!(early.or_else(|| read_words(&mut consumer)), Some(payload(1, 1)));
        assert_eq!(read_words(&mut consumer), None);
    });
}

#[test]
fn space_is_written_again_only_after_the_consumer_is_done_with_it() {
    explore(|| {
        let model = Model::new(SMALL);
        let mut producer = model.producer(Barrier::Polling);
        let mut next = 0;
        while send(&model, &mut producer, next).is_ok() {
            next += 1;
        }
        assert_eq!(next, 3, "a full ring, less the spare word");
        let writer = model.clone();
        let writing = thread::spawn(move || {
            for _ in 0..3 {
                next += u64::from(send(&writer, &mut producer, next).is_ok());
            }
            next
        });
        let mut consumer = model.consumer(Barrier::Polling);
        let mut read = 0;
        for _ in 0..3 {
            assert!(receive(&model, &mut consumer, read));
            read += 1;
        }
        let sent = writing.join().expect("the writer ends");
        while receive(&model, &mut consumer, read) {
            read += 1;
        }
        assert_eq!(read, sent);
    });
}

#[test]
fn a_long_record_is_not_written_over_while_it_is_read() {
    explore(|| {
        let model = Model::new(WIDE);
        let mut producer = model.producer(Barrier::Polling);
        model.fill_line(0);
        for words in [15, 15, 15, 7] {
            assert_eq!(producer.try_push(&payload(1, words)), Ok(()));
        }
        let writer = model.clone();
        let writing = thread::spawn(move || {
            if send(&writer, &mut producer, 7).is_ok() {
                // The first line of the next lap: free only once the long record was read.
                let _ = send(&writer, &mut producer, 8);
            }
        });
        let mut consumer = model.consumer(Barrier::Polling);
        let record = consumer.try_read().expect("an honest producer").expect("a record");
        model.check_line(0);
        let mut bytes = [0; 120];
        assert_eq!(record.read_at(0, &mut bytes), Ok(()));
        assert_eq!(bytes[..], payload(1, 15));
        drop(record);
        writing.join().expect("the writer ends");
    });
}

#[test]
fn what_the_producer_published_before_it_closed_is_there_once_the_close_is_seen() {
    explore(|| {
        let model = Model::new(SMALL);
        let writer = model.clone();
        let writing = thread::spawn(move || {
            let mut producer = writer.producer(Barrier::Polling);
            for number in 0..2 {
                send(&writer, &mut producer, number).expect("room");
            }
            producer.close();
        });
        let mut consumer = model.consumer(Barrier::Polling);
        let mut next = u64::from(receive(&model, &mut consumer, 0));
        if consumer.is_peer_closed() {
            while receive(&model, &mut consumer, next) {
                next += 1;
            }
            assert_eq!(next, 2, "everything was drained after the close was seen");
        }
        writing.join().expect("the writer ends");
    });
}

#[test]
fn undelivered_messages_are_exact_once_the_consumer_closed() {
    explore(|| {
        let model = Model::new(SMALL);
        let mut producer = model.producer(Barrier::Polling);
        for number in 0..3 {
            send(&model, &mut producer, number).expect("room");
        }
        let reader = model.clone();
        let reading = thread::spawn(move || {
            let mut consumer = reader.consumer(Barrier::Polling);
            assert!(receive(&reader, &mut consumer, 0));
            assert!(receive(&reader, &mut consumer, 1));
            consumer.close();
        });
        let closed = producer.is_peer_closed();
        let left = producer.undelivered().and_then(Undelivered::count).expect("an honest consumer");
        assert!((1..=3).contains(&left));
        assert!(!closed || left == 1, "{left} are left after the close was seen");
        reading.join().expect("the reader ends");
    });
}

/// The producer may learn of the close from a commit, whose look at the ticket is not the one of `is_peer_closed`.
#[test]
fn undelivered_messages_are_exact_once_a_commit_saw_the_close() {
    explore(|| {
        let model = Model::new(SMALL);
        let mut producer = model.producer(Barrier::Polling);
        send(&model, &mut producer, 0).expect("room");
        let reader = model.clone();
        let reading = thread::spawn(move || {
            let mut consumer = reader.consumer(Barrier::Polling);
            assert!(receive(&reader, &mut consumer, 0));
            consumer.close();
        });
        if producer.try_push(&[]).is_ok() && producer.try_push(&[]) == Err(ReserveError::Closed) {
            let left = producer.undelivered().and_then(Undelivered::count).expect("an honest consumer");
            assert_eq!(left, 1);
        }
        reading.join().expect("the reader ends");
    });
}

#[test]
fn a_consumer_that_sleeps_is_woken_for_what_it_did_not_see() {
    explore(|| {
        let model = Model::new(SMALL);
        let writer = model.clone();
        let writing = thread::spawn(move || {
            let mut producer = writer.producer(Barrier::Fence);
            send(&writer, &mut producer, 0).expect("room");
            producer.take_wake()
        });
        let mut consumer = model.consumer(Barrier::Fence);
        consumer.raise();
        let seen = receive(&model, &mut consumer, 0);
        let woken = writing.join().expect("the writer ends");
        assert!(seen || woken, "the message waits for ever");
    });
}

#[test]
fn a_producer_that_sleeps_is_woken_for_room_it_did_not_see() {
    explore(|| {
        let model = Model::new(SMALL);
        let mut producer = model.producer(Barrier::Fence);
        let mut next = 0;
        while send(&model, &mut producer, next).is_ok() {
            next += 1;
        }
        let reader = model.clone();
        let reading = thread::spawn(move || {
            let mut consumer = reader.consumer(Barrier::Fence);
            assert!(receive(&reader, &mut consumer, 0));
            consumer.take_wake()
        });
        producer.raise();
        let room = send(&model, &mut producer, next).is_ok();
        let woken = reading.join().expect("the reader ends");
        assert!(room || woken, "the producer waits for ever");
    });
}

/// `membarrier(2)` in a model: the sleeping side requests an interrupt and waits for its full fence.
///
/// The publishing thread looks for a request between each two of its memory operations, which is where an interrupt
/// can come, and a thread that has ended has passed a full fence. All flags are relaxed: the fences alone order.
mod membarrier {
    use super::{AtomicU32, Ordering, fence};
    use loom::thread;

    loom::lazy_static! {
        static ref REQUESTED: AtomicU32 = AtomicU32::new(0);
        static ref EXECUTED: AtomicU32 = AtomicU32::new(0);
    }

    /// The sleeping side's call.
    pub(super) fn heavy() {
        REQUESTED.store(1, Ordering::Relaxed);
        while EXECUTED.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
    }

    /// A moment at which the publishing thread can be interrupted.
    pub(super) fn interrupt_point() {
        if REQUESTED.load(Ordering::Relaxed) != 0 {
            finish();
        }
    }

    /// The full fence of an interrupt, or of a thread that ends.
    pub(super) fn finish() {
        fence(Ordering::SeqCst);
        EXECUTED.store(1, Ordering::Relaxed);
    }
}

/// The doorbell alone, one word standing for the publication. Returns whether the sleeper saw it, and whether it is rung.
fn doorbell(barrier: Barrier) -> (bool, bool) {
    let words = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let publisher = words.clone();
    let publishing = thread::spawn(move || {
        let (published, ticket) = &*publisher;
        let mut waker = Waker::default();
        membarrier::interrupt_point();
        published.store(1, Ordering::Release);
        membarrier::interrupt_point();
        let call = waker.call(ticket, barrier);
        membarrier::interrupt_point();
        membarrier::finish();
        call == Call::Ring
    });
    let (published, ticket) = &*words;
    let mut sleeper = Sleeper::default();
    sleeper.raise(ticket, barrier);
    let seen = published.load(Ordering::Acquire) != 0;
    (seen, publishing.join().expect("the publisher ends"))
}

#[test]
fn a_doorbell_with_fences_loses_no_wake_up() {
    explore(|| {
        let (seen, rung) = doorbell(Barrier::Fence);
        assert!(seen || rung);
    });
}

#[test]
fn a_doorbell_whose_sleeper_interrupts_the_publisher_loses_no_wake_up() {
    explore(|| {
        let (seen, rung) = doorbell(Barrier::Asymmetric { heavy: membarrier::heavy });
        assert!(seen || rung);
    });
}

/// Keeps the model above honest: it can lose a wake-up, and only the interrupt prevents it.
#[test]
#[should_panic(expected = "lost")]
fn a_doorbell_that_interrupts_nobody_loses_a_wake_up() {
    explore(|| {
        let (seen, rung) = doorbell(Barrier::Asymmetric { heavy: || {} });
        assert!(seen || rung, "lost");
    });
}
