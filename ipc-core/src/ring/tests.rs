//! What the ring promises, tried against a plain queue, forged payloads, hostile memory and two threads.
//!
//! Not judged here: whether the memory orderings are strong enough; the models do that. All but the last test run on
//! one thread, so that a failure can be repeated.

use super::{Consumer, OutOfBounds, Producer, ReadBatch, ReserveError, RingError, RingMemory, Undelivered, Violation};
use crate::doorbell::Barrier;
use crate::layout::{CONTROL_SIZE, HEADER, Header, MAX_CAPACITY, MIN_CAPACITY, is_capacity, max_record, round_up};
use crate::sync::{AtomicU64, Ordering};
use proptest::prelude::*;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::collections::VecDeque;
use std::ptr::NonNull;

/// A round number of bytes that a header and 56 bytes of payload fill.
const LINE: u64 = 64;

/// The stamp that is due at `position`, where it stands in a header.
fn stamp(position: u64, capacity: u64) -> u64 {
    Header::stamp_of_lap(position / capacity)
}

/// Memory for one ring, aligned as a mapping would be.
struct Memory {
    base: NonNull<u8>,
    capacity: u64,
}

// SAFETY: the memory is owned; it is shared through the ring and through atomic words only.
unsafe impl Sync for Memory {}

impl Memory {
    fn zeroed(capacity: u64) -> Self {
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(Self::layout(capacity)) });
        Self { base: base.unwrap_or_else(|| handle_alloc_error(Self::layout(capacity))), capacity }
    }

    /// Memory that held something else before it became a ring that begins at `start`.
    fn used_before(capacity: u64, start: u64, mut old: impl FnMut(u64) -> u64) -> Self {
        let memory = Self::zeroed(capacity);
        for index in 0..memory.words() {
            memory.word(index).store(old(index), Ordering::Relaxed);
        }
        // SAFETY: no half exists yet.
        unsafe { memory.ring().reset(start) };
        memory
    }

    fn starting_at(capacity: u64, start: u64) -> Self {
        Self::used_before(capacity, start, |_| 0)
    }

    fn layout(capacity: u64) -> Layout {
        Layout::from_size_align((CONTROL_SIZE + capacity) as usize, 128).expect("sizes of a ring fit a layout")
    }

    fn words(&self) -> u64 {
        (CONTROL_SIZE + self.capacity) / 8
    }

    /// Any word of control block and data, as a hostile peer reaches it.
    fn word(&self, index: u64) -> &AtomicU64 {
        assert!(index < self.words());
        // SAFETY: inside the allocation, aligned; rings touch the words of these tests on the same thread.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().cast::<u64>().add(index as usize)) }
    }

    fn ring(&self) -> RingMemory<'_> {
        // SAFETY: the allocation has the size and lives as long as the view.
        unsafe { RingMemory::from_raw(self.base, self.capacity) }.expect("a capacity that a ring can have")
    }

    fn halves(&self, barrier: Barrier) -> (Producer<'_>, Consumer<'_>) {
        // SAFETY: each test makes one pair at a time.
        unsafe { (self.ring().producer(barrier), self.ring().consumer(barrier)) }
    }

    /// Says whether `len` bytes from `pointer` lie inside the data area.
    fn holds(&self, pointer: *const u8, len: usize) -> bool {
        let data = self.base.as_ptr().addr() + CONTROL_SIZE as usize;
        pointer.addr() >= data && pointer.addr() + len <= data + self.capacity as usize
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.base.as_ptr(), Self::layout(self.capacity)) };
    }
}

/// A small generator (xorshift), the same on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn read(consumer: &mut Consumer<'_>) -> Result<Option<Vec<u8>>, Violation> {
    Ok(consumer.try_read()?.map(|record| {
        let mut payload = vec![0; record.len()];
        record.read_at(0, &mut payload).expect("as long as the record");
        payload
    }))
}

fn read_next(batch: &mut ReadBatch<'_, '_>) -> Result<Option<Vec<u8>>, Violation> {
    // SAFETY: the bytes stay valid while the batch lives, and the producers of these tests do not write them.
    Ok(batch.try_next()?.map(|(first, len)| unsafe { std::slice::from_raw_parts(first, len) }.to_vec()))
}

fn left_over(undelivered: Undelivered<'_>) -> Result<Vec<Vec<u8>>, Violation> {
    let mut undelivered = undelivered;
    let mut messages = Vec::new();
    while let Some(message) = undelivered.next_payload()? {
        messages.push(vec![0; message.len()]);
        message.read_at(0, messages.last_mut().expect("just pushed")).expect("as long as the message");
    }
    Ok(messages)
}

fn words_as_bytes(words: impl Iterator<Item = u64>) -> Vec<u8> {
    words.flat_map(u64::to_ne_bytes).collect()
}

// ---- the ring against a plain queue

/// A payload length, told in a way that suits every capacity.
#[derive(Clone, Copy, Debug)]
enum Size {
    Bytes(u64),
    BelowMax(u64),
    AboveMax(u64),
    Permille(u64),
}

impl Size {
    fn resolve(self, max: u64) -> usize {
        (match self {
            Self::Bytes(bytes) => bytes,
            Self::BelowMax(less) => max - less,
            Self::AboveMax(more) => max + more,
            Self::Permille(share) => max * share / 1000,
        }) as usize
    }
}

/// What a payload is made of. The forged ones look like headers that the consumer may poll for.
#[derive(Clone, Copy, Debug)]
enum Content {
    Noise(u64),
    /// Each word is a header with the stamp that is due `laps` after the tail, and these flags and length.
    Forged {
        laps: u64,
        low: u32,
    },
}

impl Content {
    fn payload(self, len: usize, tail: u64, capacity: u64) -> Vec<u8> {
        let mut bytes = match self {
            Self::Noise(seed) => {
                let mut random = Random(seed | 1);
                words_as_bytes((0..len.div_ceil(8)).map(|_| random.next()))
            }
            Self::Forged { laps, low } => {
                let due = stamp(tail + laps * capacity, capacity);
                words_as_bytes((0..len.div_ceil(8)).map(|_| due | u64::from(low)))
            }
        };
        bytes.truncate(len);
        bytes
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(Size, Content),
    /// As `Push`, but a refusal is answered by draining the ring, after which there must be room.
    PushAtLast(Size, Content),
    Abort(Size, Content),
    Batch {
        records: Vec<(Size, Content)>,
        /// The consumer drains the ring whenever a record of the batch is refused.
        drained: bool,
        commit: bool,
    },
    Read,
    ReadBatch(u64),
    Flush,
}

fn size() -> impl Strategy<Value = Size> {
    prop_oneof![
        4 => (0..=16_u64).prop_map(Size::Bytes),
        4 => (40..=136_u64).prop_map(Size::Bytes),
        4 => (0..=1000_u64).prop_map(Size::Permille),
        2 => (0..=16_u64).prop_map(Size::BelowMax),
        1 => (1..=100_u64).prop_map(Size::AboveMax),
    ]
}

fn content() -> impl Strategy<Value = Content> {
    let low = prop_oneof![
        Just(0),
        0..=200_u32,
        Just(1 << 30),
        Just(1 << 31),
        Just(3 << 30),
        Just((1 << 31) + 8),
        any::<u32>()
    ];
    prop_oneof![
        1 => any::<u64>().prop_map(Content::Noise),
        3 => (0..=2_u64, low).prop_map(|(laps, low)| Content::Forged { laps, low }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (size(), content()).prop_map(|(size, content)| Step::Push(size, content)),
        2 => (size(), content()).prop_map(|(size, content)| Step::PushAtLast(size, content)),
        2 => (size(), content()).prop_map(|(size, content)| Step::Abort(size, content)),
        4 => (prop::collection::vec((size(), content()), 0..12), any::<bool>(), prop::bool::weighted(0.75))
            .prop_map(|(records, drained, commit)| Step::Batch { records, drained, commit }),
        6 => Just(Step::Read),
        4 => (0..=12_u64).prop_map(Step::ReadBatch),
        1 => Just(Step::Flush),
    ]
}

/// Capacities and first positions: the beginning, and just before everything that wraps.
fn place() -> impl Strategy<Value = (u64, u64)> {
    (12..=16_u32, 0..9_usize, 0..=320_u64).prop_map(|(shift, mark, words)| {
        let lap = 1_u64 << shift;
        let marks = [0, lap, 2 * lap, lap << 31, (lap << 32) - lap, lap << 32, (lap << 32) + lap, 1 << 40, 1 << 62];
        (lap, marks[mark].saturating_sub(words * HEADER))
    })
}

struct World<'a> {
    memory: &'a Memory,
    producer: Producer<'a>,
    consumer: Consumer<'a>,
    /// Committed and not consumed.
    queue: VecDeque<Vec<u8>>,
    sent: u64,
}

impl<'a> World<'a> {
    fn new(memory: &'a Memory) -> Self {
        let (producer, consumer) = memory.halves(Barrier::Polling);
        Self { memory, producer, consumer, queue: VecDeque::new(), sent: 0 }
    }

    fn tail(&self) -> u64 {
        let head = self.memory.ring().control().consumer.head.load(Ordering::Relaxed);
        head + self.memory.ring().status().used
    }

    fn payload(&self, size: Size, content: Content) -> Vec<u8> {
        let capacity = self.memory.capacity;
        content.payload(size.resolve(max_record(capacity)), self.tail(), capacity)
    }

    fn committed(&mut self, payload: Vec<u8>) {
        self.queue.push_back(payload);
        self.sent += 1;
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Push(size, content) => {
                let payload = self.payload(size, content);
                match self.producer.try_push(&payload) {
                    Ok(()) => self.committed(payload),
                    Err(refusal) => self.must_be_right(refusal, payload.len(), self.queue.is_empty()),
                }
            }
            Step::PushAtLast(size, content) => {
                let payload = self.payload(size, content);
                if let Err(ReserveError::Full { .. }) = self.producer.try_push(&payload) {
                    assert!(!self.producer.has_room());
                    self.drain();
                    assert!(self.producer.has_room(), "a drained ring has room for every record");
                    assert_eq!(self.producer.try_push(&payload), Ok(()));
                    self.committed(payload);
                } else if payload.len() as u64 <= self.producer.max_record() {
                    self.committed(payload);
                }
            }
            Step::Abort(size, content) => {
                let payload = self.payload(size, content);
                match self.producer.try_reserve(payload.len()) {
                    Ok(mut record) => record.write_at(0, &payload),
                    Err(refusal) => self.must_be_right(refusal, payload.len(), self.queue.is_empty()),
                }
            }
            Step::Batch { records, drained, commit } => self.batch(records, drained, commit),
            Step::Read => {
                let message = read(&mut self.consumer).expect("an honest producer");
                assert_eq!(message, self.queue.pop_front());
            }
            Step::ReadBatch(limit) => {
                let mut batch = self.consumer.read_batch();
                for _ in 0..limit {
                    let message = read_next(&mut batch).expect("an honest producer");
                    assert_eq!(message, self.queue.pop_front());
                }
            }
            Step::Flush => assert!(!self.consumer.flush_credit(), "nobody sleeps"),
        }
        self.check();
    }

    fn batch(&mut self, records: Vec<(Size, Content)>, drained: bool, commit: bool) {
        let payloads: Vec<_> = records.into_iter().map(|(size, content)| self.payload(size, content)).collect();
        let mut taken = Vec::new();
        let mut refusals = Vec::new();
        let mut batch = self.producer.batch();
        for payload in payloads {
            match batch.push(&payload) {
                Ok(()) => taken.push(payload),
                Err(refusal) => {
                    refusals.push((refusal, payload.len(), self.queue.is_empty() && batch.is_empty()));
                    while drained && let Some(message) = read(&mut self.consumer).expect("an honest producer") {
                        assert_eq!(Some(message), self.queue.pop_front());
                    }
                }
            }
            assert_eq!(batch.len(), taken.len() as u64);
        }
        if commit {
            batch.commit();
            taken.into_iter().for_each(|payload| self.committed(payload));
        } else {
            drop(batch);
        }
        for (refusal, len, nothing_unread) in refusals {
            self.must_be_right(refusal, len, nothing_unread);
        }
    }

    fn must_be_right(&self, refusal: ReserveError, len: usize, nothing_unread: bool) {
        let max = max_record(self.memory.capacity);
        match refusal {
            ReserveError::TooLarge { len: told, max: told_max } => {
                assert_eq!((told, told_max), (len as u64, max));
                assert!(told > max);
            }
            ReserveError::Full { needed, free } => {
                assert!(needed > free && len as u64 <= max);
                assert!(!nothing_unread, "an empty ring takes every record");
            }
            ReserveError::Violation(_) | ReserveError::Closed => panic!("an honest consumer: {refusal}"),
        }
    }

    fn drain(&mut self) {
        while let Some(message) = read(&mut self.consumer).expect("an honest producer") {
            assert_eq!(Some(message), self.queue.pop_front());
        }
        assert!(self.queue.is_empty());
    }

    fn check(&mut self) {
        let undelivered = self.producer.undelivered().expect("an honest consumer");
        assert_eq!(undelivered.count(), Ok(self.queue.len() as u64));
        assert_eq!(left_over(undelivered), Ok(Vec::from(self.queue.clone())));

        let ring = self.memory.ring();
        let status = ring.status();
        assert_eq!((status.sent, status.received), (self.sent, self.sent - self.queue.len() as u64));
        assert_eq!((self.producer.messages(), self.consumer.messages()), (status.sent, status.received));

        let credit = ring.control().consumer_signals.credit.load(Ordering::Relaxed);
        assert!(
            self.tail() + HEADER <= credit + self.memory.capacity,
            "the word that is polled next belongs to no unread record"
        );
        if self.queue.is_empty() {
            assert!(read(&mut self.consumer).expect("an honest producer").is_none());
            assert!(!self.consumer.is_ready());
        } else {
            assert!(self.consumer.is_ready());
        }
    }
}

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: if cfg!(miri) { 4 } else { count }, failure_persistence: None, ..Default::default() }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn the_ring_is_a_queue_for_every_payload_at_every_position(
        (capacity, start) in place(),
        old in (any::<u64>(), any::<bool>()),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let due = stamp(start, capacity);
        let mut random = Random(old.0 | 1);
        let memory = Memory::used_before(capacity, start, |_| if old.1 { due } else { random.next() });
        let mut world = World::new(&memory);
        for step in steps {
            world.apply(step);
        }
        world.drain();
        world.check();
    }
}

/// The padding had moved the tail, but the batch still began before it: behind the consumer's back.
#[test]
fn a_batch_that_found_room_for_its_padding_alone_can_begin_with_a_smaller_record() {
    // 50 lines are unread, 14 are free, and the end of the area is 2 lines away.
    let memory = Memory::starting_at(MIN_CAPACITY, 12 * LINE);
    let (mut producer, mut consumer) = memory.halves(Barrier::Polling);
    (0..50).for_each(|_| assert_eq!(producer.try_push(&[1; 56]), Ok(())));
    let mut batch = producer.batch();
    assert!(matches!(batch.push(&[2; 1000]), Err(ReserveError::Full { .. })));
    (0..50).for_each(|_| assert_eq!(read(&mut consumer), Ok(Some(vec![1; 56]))));
    assert_eq!(read(&mut consumer), Ok(None));
    assert_eq!(batch.push(&[3; 8]), Ok(()));
    batch.commit();
    assert_eq!(read(&mut consumer), Ok(Some(vec![3; 8])));
}

// ---- forged headers in payloads

#[test]
fn a_payload_that_looks_like_the_header_due_next_is_not_read_as_one() {
    for laps in [0, 1 << 31, (1 << 32) - 2] {
        let memory = Memory::starting_at(MIN_CAPACITY, laps * MIN_CAPACITY);
        let (mut producer, mut consumer) = memory.halves(Barrier::Polling);
        // The first lap is filled with the headers that the second lap polls for.
        let forged = plain(stamp((laps + 1) * MIN_CAPACITY, MIN_CAPACITY), 0).bits();
        let payload = words_as_bytes((0..producer.max_record() / 8).map(|_| forged));
        for _ in 0..4 {
            assert_eq!(producer.try_push(&payload), Ok(()));
            assert_eq!(read(&mut consumer), Ok(Some(payload.clone())));
            assert_eq!(read(&mut consumer), Ok(None));
        }
        for number in 0..MIN_CAPACITY / (2 * HEADER) {
            assert_eq!(producer.try_push(b"one word"), Ok(()));
            assert_eq!(read(&mut consumer), Ok(Some(b"one word".to_vec())), "record {number}");
            assert_eq!(read(&mut consumer), Ok(None), "nothing was published behind record {number}");
        }
    }
}

#[test]
fn an_aborted_record_or_batch_is_never_read() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (mut producer, mut consumer) = memory.halves(Barrier::Polling);
    let forged = plain(stamp(0, MIN_CAPACITY), 0).bits();
    let payload = words_as_bytes((0..32).map(|_| forged));
    for seen in [4, 8, 24, 56, 120, 56] {
        producer.try_reserve(payload.len()).expect("room").write_at(0, &payload);
        // The headers inside come where the next publication ends.
        let mut batch = producer.batch();
        for _ in 0..8 {
            assert_eq!(batch.push(&payload[..56]), Ok(()));
        }
        drop(batch);
        assert_eq!(read(&mut consumer), Ok(None));
        assert_eq!(producer.try_push(&payload[..seen]), Ok(()));
        assert_eq!(read(&mut consumer), Ok(Some(payload[..seen].to_vec())));
        assert_eq!(read(&mut consumer), Ok(None));
        assert_eq!(producer.undelivered().and_then(Undelivered::count), Ok(0));
    }
}

#[test]
fn a_ring_filled_to_the_brim_keeps_every_unread_record_whole() {
    // The oldest unread record lies in the middle of a publication in every way that credit can come back.
    for consumed in 0..16_usize {
        let memory = Memory::zeroed(MIN_CAPACITY);
        let mut world = World::new(&memory);
        world.apply(Step::Batch {
            records: vec![(Size::Bytes(56), Content::Forged { laps: 1, low: 0 }); 16],
            drained: false,
            commit: true,
        });
        world.apply(Step::ReadBatch(consumed as u64));
        world.apply(Step::Flush);
        let mut last = None;
        while let Ok(()) = world.producer.try_push(&[7; 56]) {
            world.committed(vec![7; 56]);
            world.check();
            last = Some(world.tail());
        }
        assert!(last.is_some());
        world.drain();
        world.check();
    }
}

// ---- what a consumer leaves unread

/// A batch that begins two lines before the end of the area and goes over it.
fn wrapped_batch(producer: &mut Producer<'_>, records: u8) -> Vec<Vec<u8>> {
    let messages: Vec<_> = (0..records).map(|record| vec![record; 100]).collect();
    let mut batch = producer.batch();
    for message in &messages {
        assert_eq!(batch.push(message), Ok(()));
    }
    batch.commit();
    messages
}

#[test]
fn undelivered_messages_are_exact_after_any_prefix_of_a_batch_over_the_end_of_the_area() {
    for lines in 1..=6 {
        for consumed in 0..=8_usize {
            let start = 9 * MIN_CAPACITY - lines * LINE;
            let memory = Memory::starting_at(MIN_CAPACITY, start);
            let (mut producer, mut consumer) = memory.halves(Barrier::Polling);
            let messages = wrapped_batch(&mut producer, 8);
            if consumed % 2 == 0 {
                let mut batch = consumer.read_batch();
                (0..consumed).for_each(|_| assert!(batch.try_next().expect("an honest producer").is_some()));
            } else {
                (0..consumed).for_each(|_| assert!(read(&mut consumer).expect("an honest producer").is_some()));
            }
            let undelivered = producer.undelivered().expect("an honest consumer");
            assert_eq!(undelivered.count(), Ok(8 - consumed as u64));
            assert_eq!(left_over(undelivered).as_deref(), Ok(&messages[consumed..]));
        }
    }
}

#[test]
fn a_record_that_was_being_read_when_the_consumer_died_is_undelivered() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (mut producer, mut consumer) = memory.halves(Barrier::Polling);
    let messages = wrapped_batch(&mut producer, 3);
    drop(consumer.try_read());
    let being_read = consumer.try_read().expect("an honest producer");
    assert!(being_read.is_some());
    let undelivered = producer.undelivered().expect("an honest consumer");
    assert_eq!(left_over(undelivered).as_deref(), Ok(&messages[1..]));
    drop(being_read);
    assert_eq!(producer.undelivered().and_then(Undelivered::count), Ok(1));
}

// ---- room

#[test]
fn records_of_the_largest_size_never_wait_for_room_once_the_consumer_drained() {
    for shift in 12..=16 {
        let capacity = 1 << shift;
        for lines in 0..capacity / LINE {
            let memory = Memory::starting_at(capacity, capacity + lines * LINE + HEADER * (lines % 8));
            let (mut producer, mut consumer) = memory.halves(Barrier::Polling);
            let payload = vec![1; max_record(capacity) as usize];
            let mut waits = 0;
            for _ in 0..12 {
                if let Err(ReserveError::Full { .. }) = producer.try_push(&payload) {
                    waits += 1;
                    while consumer.try_read().expect("an honest producer").is_some() {}
                    assert!(producer.has_room());
                    assert_eq!(producer.try_push(&payload), Ok(()));
                }
            }
            assert!(waits > 0, "the ring was full at times");
            if cfg!(miri) {
                break;
            }
        }
    }
}

#[test]
fn a_ring_takes_lengths_from_zero_to_its_largest_record() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (mut producer, mut consumer) = memory.halves(Barrier::Polling);
    let max = producer.max_record() as usize;
    for len in 0..=max {
        let payload = vec![len as u8; len];
        assert_eq!(producer.try_push(&payload), Ok(()));
        assert_eq!(read(&mut consumer), Ok(Some(payload)));
    }
    let too_large = ReserveError::TooLarge { len: max as u64 + 1, max: max as u64 };
    assert_eq!(producer.try_push(&vec![0; max + 1]), Err(too_large));
    assert_eq!(producer.batch().push(&vec![0; max + 1]), Err(too_large));
    assert!(matches!(producer.try_reserve(usize::MAX), Err(ReserveError::TooLarge { .. })));
}

#[test]
fn a_consumer_that_stands_still_is_told_from_one_that_moves() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (mut producer, mut consumer) = memory.halves(Barrier::Polling);
    for _ in 0..1000 {
        assert_eq!(producer.try_push(&[1; 8]), Ok(()));
        assert!(read(&mut consumer).expect("an honest producer").is_some());
        assert!(!consumer.flush_credit());
        assert!(!producer.take_stalled());
    }
    while producer.try_push(&[1; 8]).is_ok() {}
    assert!(producer.take_stalled());
    assert!(!producer.take_stalled());
}

#[test]
#[should_panic(expected = "do not fit a payload")]
fn writing_past_a_reservation_panics() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (mut producer, _) = memory.halves(Barrier::Polling);
    producer.try_reserve(8).expect("room").write_at(usize::MAX, b"x");
}

#[test]
fn reading_past_a_record_is_refused() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (mut producer, mut consumer) = memory.halves(Barrier::Polling);
    assert_eq!(producer.try_push(b"12345678"), Ok(()));
    let record = consumer.try_read().expect("an honest producer").expect("a record");
    for (offset, len) in [(0, 9), (1, 8), (8, 1), (9, 0), (usize::MAX, 1), (usize::MAX, 0)] {
        assert_eq!(record.read_at(offset, &mut [0; 9][..len]), Err(OutOfBounds { len, offset, message: 8 }));
    }
    for (offset, len) in [(0, 8), (8, 0), (3, 5)] {
        assert_eq!(record.read_at(offset, &mut [0; 9][..len]), Ok(()));
    }
}

// ---- memory

#[test]
fn only_powers_of_two_in_range_are_capacities() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    for capacity in [0, 1, 64, MIN_CAPACITY / 2, MIN_CAPACITY + 1, 3 << 12, 2 * MAX_CAPACITY, u64::MAX] {
        assert!(!is_capacity(capacity));
        // SAFETY: refused before any byte is touched.
        let refusal = unsafe { RingMemory::from_raw(memory.base, capacity) }.err();
        assert_eq!(refusal, Some(RingError::Capacity { capacity }));
    }
    assert!((12..=30).all(|shift| is_capacity(1 << shift)));
}

#[test]
fn memory_that_is_not_aligned_to_128_bytes_is_refused() {
    let memory = Memory::zeroed(2 * MIN_CAPACITY);
    for offset in [1, 8, 64, 127] {
        // SAFETY: inside the allocation, which is twice as large as the ring asked for.
        let (base, refusal) = unsafe {
            let base = memory.base.add(offset);
            (base, RingMemory::from_raw(base, MIN_CAPACITY).err())
        };
        assert_eq!(refusal, Some(RingError::Alignment { address: base.as_ptr().addr() }));
    }
}

#[test]
fn a_reset_ring_is_as_good_as_new() {
    let memory = Memory::used_before(MIN_CAPACITY, 5 * LINE, |_| u64::MAX);
    let status = memory.ring().status();
    assert_eq!((status.used, status.sent, status.received), (0, 0, 0));
    assert!(!status.producer_sleeps && !status.consumer_sleeps);
    let (producer, consumer) = memory.halves(Barrier::Polling);
    assert!(!producer.is_peer_closed() && !consumer.is_peer_closed() && !consumer.is_ready());
    assert_eq!(producer.exchange_processor(3), None, "no consumer has waited yet");
}

#[test]
fn each_side_sees_the_processor_that_the_other_waited_on() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (producer, consumer) = memory.halves(Barrier::Polling);
    assert_eq!(producer.exchange_processor(0), None);
    assert_eq!(consumer.exchange_processor(7), Some(0));
    assert_eq!(producer.exchange_processor(u32::MAX), Some(7));
    assert_eq!(consumer.exchange_processor(7), None, "an unknown processor is not one");
}

#[test]
fn what_was_published_before_closing_can_still_be_read() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (mut producer, mut consumer) = memory.halves(Barrier::Polling);
    assert_eq!(producer.try_push(b"last"), Ok(()));
    assert!(!consumer.is_peer_closed());
    producer.close();
    assert!(consumer.is_peer_closed());
    assert_eq!(read(&mut consumer), Ok(Some(b"last".to_vec())));
    assert!(!producer.is_peer_closed());
    consumer.close();
    assert!(producer.is_peer_closed());
}

#[test]
fn nothing_can_be_published_once_the_consumer_is_known_to_have_gone() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (mut producer, mut consumer) = memory.halves(Barrier::Fence);
    assert_eq!(producer.try_push(b"read"), Ok(()));
    assert_eq!(read(&mut consumer), Ok(Some(b"read".to_vec())));
    consumer.close();
    assert_eq!(producer.try_push(b"told of the close"), Ok(()));
    assert_eq!(producer.try_push(b""), Err(ReserveError::Closed));
    assert_eq!(producer.batch().push(b""), Err(ReserveError::Closed));
    assert!(!producer.take_wake(), "nobody is there to be woken");
    assert_eq!(producer.undelivered().and_then(left_over), Ok(vec![b"told of the close".to_vec()]));
}

#[test]
fn a_full_ring_tells_of_a_consumer_that_has_gone() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (mut producer, mut consumer) = memory.halves(Barrier::Fence);
    while producer.try_push(&[0; 100]).is_ok() {}
    consumer.close();
    assert_eq!(producer.try_push(&[0; 100]), Err(ReserveError::Closed));
}

// ---- tickets

#[test]
fn a_consumer_is_woken_once_a_ticket() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (mut producer, mut consumer) = memory.halves(Barrier::Fence);
    for _ in 0..5 {
        assert_eq!(producer.try_push(b"awake"), Ok(()));
        assert!(!producer.take_wake(), "nobody sleeps");
        consumer.raise();
        assert!(memory.ring().status().consumer_sleeps);
        let mut batch = producer.batch();
        assert_eq!(batch.push(b"asleep"), Ok(()));
        batch.commit();
        assert_eq!(producer.try_push(b"asleep"), Ok(()));
        assert!(producer.take_wake());
        assert!(!producer.take_wake());
        assert_eq!(producer.try_push(b"woken already"), Ok(()));
        assert!(!producer.take_wake());
        consumer.lower();
        assert!(!memory.ring().status().consumer_sleeps);
    }
}

#[test]
fn a_consumer_that_flushes_credit_says_whether_to_wake_the_producer() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (mut producer, mut consumer) = memory.halves(Barrier::Fence);
    while producer.try_push(&[0; 56]).is_ok() {}
    assert!(!consumer.flush_credit(), "nothing was consumed");
    assert!(read(&mut consumer).expect("an honest producer").is_some());
    producer.raise();
    assert!(!producer.has_room());
    assert!(consumer.flush_credit());
    assert!(producer.has_room());
    assert!(!consumer.flush_credit() && !consumer.take_wake(), "one wake-up a ticket");
}

/// Padding that was stepped over was given back, but not counted as consumed.
#[test]
fn undelivered_messages_are_exact_after_credit_for_padding_was_flushed() {
    let memory = Memory::starting_at(MIN_CAPACITY, MIN_CAPACITY - LINE);
    let (mut producer, mut consumer) = memory.halves(Barrier::Polling);
    let mut batch = producer.batch();
    assert_eq!(batch.push(&[1; 8]), Ok(()));
    batch.commit();
    assert_eq!(read(&mut consumer), Ok(Some(vec![1; 8])));
    // The padding is published, the record behind it is not.
    drop(producer.try_reserve(100));
    assert_eq!(read(&mut consumer), Ok(None));
    assert!(!consumer.flush_credit());
    while producer.try_push(&[2; 100]).is_ok() {}
    assert!(producer.undelivered().and_then(Undelivered::count).is_ok_and(|count| count > 30));
}

#[test]
fn a_reservation_that_is_dropped_wakes_nobody() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (mut producer, mut consumer) = memory.halves(Barrier::Fence);
    consumer.raise();
    drop(producer.try_reserve(8));
    drop(producer.batch());
    producer.batch().commit();
    assert!(!producer.take_wake());
}

#[test]
fn a_producer_that_sleeps_for_room_is_woken_once_there_is_room() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (mut producer, mut consumer) = memory.halves(Barrier::Fence);
    for _ in 0..3 {
        while producer.try_push(&[0; 1000]).is_ok() {}
        producer.raise();
        assert!(memory.ring().status().producer_sleeps);
        assert!(!producer.has_room());
        let mut wakes = 0;
        while read(&mut consumer).expect("an honest producer").is_some() {
            wakes += u32::from(consumer.take_wake());
        }
        assert_eq!(wakes, 1);
        assert!(producer.has_room());
        producer.lower();
    }
}

// ---- hostile memory

#[derive(Clone, Debug)]
enum Blow {
    Honest(Step),
    /// Overwrites a word: one of the control block, or of the data near the tail, with something likely to hurt.
    Scribble {
        word: Word,
        value: Value,
    },
}

#[derive(Clone, Copy, Debug)]
enum Word {
    Control(u64),
    /// This many words behind the tail.
    Data(u64),
}

#[derive(Clone, Copy, Debug)]
enum Value {
    Any(u64),
    /// Near the tail.
    Position(i64),
    /// A header that is due this many laps after the tail's.
    Header(u64, u32),
}

fn blow() -> impl Strategy<Value = Blow> {
    let word = prop_oneof![
        2 => prop_oneof![0..48_u64, Just(0), Just(16), Just(32), Just(33), Just(34)].prop_map(Word::Control),
        2 => Just(Word::Data(0)),
        2 => (0..64_u64).prop_map(|lines| Word::Data(lines * 8)),
        2 => any::<u64>().prop_map(Word::Data),
    ];
    let low = prop_oneof![Just(0), 0..=2000_u32, any::<u32>(), Just(1 << 30), Just(3 << 30), Just((1 << 31) + 8)];
    let value = prop_oneof![
        1 => prop_oneof![any::<u64>(), Just(0), Just(u64::MAX)].prop_map(Value::Any),
        2 => prop_oneof![-5000..=5000_i64, -64..=64_i64].prop_map(Value::Position),
        4 => (0..=1_u64, low).prop_map(|(laps, low)| Value::Header(laps, low)),
    ];
    prop_oneof![
        1 => step().prop_map(Blow::Honest),
        1 => (word, value).prop_map(|(word, value)| Blow::Scribble { word, value }),
    ]
}

const FIELDS: [&str; 5] = ["credit", "head", "record length", "padding at the start of a lap", "undelivered record"];

/// Goes on using a ring whatever its memory says.
struct Victim<'a> {
    memory: &'a Memory,
    producer: Producer<'a>,
    consumer: Consumer<'a>,
    /// Kept apart, since the control block's copy is not to be trusted.
    tail: u64,
}

impl Victim<'_> {
    fn scribble(&self, word: Word, value: Value) {
        let control_words = CONTROL_SIZE / 8;
        let index = match word {
            Word::Control(index) => index,
            Word::Data(behind) => {
                control_words + (self.tail / 8).wrapping_add(behind) % (self.memory.words() - control_words)
            }
        };
        let value = match value {
            Value::Any(value) => value,
            Value::Position(distance) => self.tail.wrapping_add_signed(distance),
            Value::Header(laps, low) => {
                stamp(self.tail + laps * self.memory.capacity, self.memory.capacity) | u64::from(low)
            }
        };
        self.memory.word(index).store(value, Ordering::Relaxed);
    }

    fn payload(&self, size: Size, content: Content) -> Vec<u8> {
        content.payload(size.resolve(self.producer.max_record()), self.tail, self.memory.capacity)
    }

    fn push(&mut self, payload: &[u8], commit: bool) {
        match self.producer.try_reserve(payload.len()) {
            Ok(mut record) => {
                assert!(self.memory.holds(record.as_mut_ptr(), record.len()));
                let capacity = self.memory.capacity;
                let payload_at = record.as_mut_ptr().addr() - self.memory.base.as_ptr().addr();
                let begin = payload_at as u64 - CONTROL_SIZE - HEADER;
                record.write_at(0, payload);
                if commit {
                    record.commit();
                    let lap = self.tail / capacity + u64::from(begin < self.tail % capacity);
                    self.tail = lap * capacity + round_up(begin + HEADER + payload.len() as u64, HEADER);
                }
            }
            Err(ReserveError::Violation(violation)) => named(violation),
            Err(_) => {}
        }
    }

    fn read_all(&mut self, limit: u64) {
        let mut batch = self.consumer.read_batch();
        for taken in 0..limit {
            assert!(taken <= self.memory.capacity / HEADER, "reading memory that stands still comes to an end");
            match batch.try_next() {
                Ok(Some((first, len))) => assert!(self.memory.holds(first, len)),
                Ok(None) => return,
                Err(violation) => return named(violation),
            }
        }
    }

    fn suffer(&mut self, blow: Blow) {
        match blow {
            Blow::Scribble { word, value } => self.scribble(word, value),
            Blow::Honest(Step::Push(size, content) | Step::PushAtLast(size, content)) => {
                let payload = self.payload(size, content);
                self.push(&payload, true);
            }
            Blow::Honest(Step::Abort(size, content)) => {
                let payload = self.payload(size, content);
                self.push(&payload, false);
            }
            Blow::Honest(Step::Batch { records, commit, .. }) => {
                let payloads: Vec<_> = records.into_iter().map(|(size, content)| self.payload(size, content)).collect();
                let mut batch = self.producer.batch();
                for payload in payloads {
                    if let Err(ReserveError::Violation(violation)) = batch.push(&payload) {
                        named(violation);
                    }
                }
                if commit {
                    batch.commit();
                }
            }
            Blow::Honest(Step::Read) => match self.consumer.try_read() {
                Ok(Some(record)) => {
                    assert!(self.memory.holds(record.as_ptr(), record.len()));
                    assert_eq!(record.read_at(0, &mut vec![0; record.len()]), Ok(()));
                }
                Ok(None) => {}
                Err(violation) => named(violation),
            },
            Blow::Honest(Step::ReadBatch(12)) => self.read_all(u64::MAX),
            Blow::Honest(Step::ReadBatch(limit)) => self.read_all(limit),
            Blow::Honest(Step::Flush) => {
                let _ = self.consumer.flush_credit();
            }
        }
        self.look_around();
    }

    fn look_around(&mut self) {
        assert!(self.memory.ring().status().used <= self.memory.capacity);
        let (_, _, _) = (self.producer.has_room(), self.consumer.is_ready(), self.producer.take_stalled());
        self.producer.raise();
        self.consumer.raise();
        self.consumer.keep_distance();
        let (_, _) = (self.producer.take_wake(), self.consumer.take_wake());
        let (_, _) = (self.producer.exchange_processor(1), self.consumer.exchange_processor(2));
        match self.producer.undelivered() {
            Ok(mut undelivered) => {
                for taken in 0.. {
                    assert!(taken <= self.memory.capacity / HEADER, "a count of records comes to an end");
                    match undelivered.next_payload() {
                        Ok(Some(payload)) => assert!(self.memory.holds(payload.as_ptr(), payload.len())),
                        Ok(None) => break,
                        Err(violation) => return named(violation),
                    }
                }
            }
            Err(violation) => named(violation),
        }
    }
}

fn named(violation: Violation) {
    assert!(FIELDS.contains(&violation.field), "{violation}");
    assert!(violation.to_string().contains(violation.field));
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn no_word_that_a_peer_can_write_makes_a_half_panic_or_leave_its_memory(
        (capacity, start) in place(),
        blows in prop::collection::vec(blow(), 1..120),
    ) {
        let memory = Memory::starting_at(capacity, start);
        let (producer, consumer) = memory.halves(Barrier::Fence);
        let mut victim = Victim { memory: &memory, producer, consumer, tail: start };
        for blow in blows {
            victim.suffer(blow);
        }
    }
}

/// A server can write into a ring before its client makes the halves.
#[test]
fn halves_made_over_any_control_block_stay_inside_their_memory() {
    for word in [1, 3, 7, MIN_CAPACITY - 1, MIN_CAPACITY - 8, 1 << 40, (1 << 62) + 4, u64::MAX - 7, u64::MAX] {
        for only in [None, Some(0), Some(16), Some(32), Some(33), Some(34)] {
            let memory = Memory::zeroed(MIN_CAPACITY);
            for index in (0..CONTROL_SIZE / 8).filter(|index| only.is_none_or(|only| only == *index)) {
                memory.word(index).store(word, Ordering::Relaxed);
            }
            let (producer, consumer) = memory.halves(Barrier::Fence);
            let mut victim = Victim { memory: &memory, producer, consumer, tail: 0 };
            let record = (Size::Permille(500), Content::Noise(1));
            for _ in 0..20 {
                victim.suffer(Blow::Honest(Step::Push(record.0, record.1)));
                victim.suffer(Blow::Honest(Step::Batch { records: vec![record; 20], drained: false, commit: true }));
                victim.suffer(Blow::Honest(Step::ReadBatch(12)));
            }
        }
    }
}

/// What reading ends with when the data from `start` on holds these headers, each so many bytes further on.
fn end_of_reading(start: u64, headers: &[(u64, Header)]) -> Option<(&'static str, u64)> {
    let memory = Memory::starting_at(MIN_CAPACITY, start);
    for (distance, header) in headers {
        let index = (start + distance) % MIN_CAPACITY;
        memory.word((CONTROL_SIZE + index) / 8).store(header.bits(), Ordering::Relaxed);
    }
    let (_, mut consumer) = memory.halves(Barrier::Polling);
    let mut batch = consumer.read_batch();
    loop {
        match batch.try_next() {
            Ok(Some((first, len))) => assert!(memory.holds(first, len)),
            Ok(None) => return None,
            Err(violation) => return Some((violation.field, violation.value)),
        }
    }
}

#[test]
fn a_record_that_cannot_be_is_refused_by_name() {
    let due = |position: u64| stamp(position, MIN_CAPACITY);
    let max = max_record(MIN_CAPACITY);
    assert_eq!(end_of_reading(0, &[(0, plain(due(0), max))]), None);
    assert_eq!(end_of_reading(0, &[(0, plain(due(0), max + 1))]), Some(("record length", max + 1)));

    // Near the end of the area it is the area that limits a record.
    let line_before_end = MIN_CAPACITY - LINE;
    let fits = plain(due(0), LINE - HEADER);
    let reaches_over = plain(due(0), LINE - HEADER + 1);
    assert_eq!(end_of_reading(line_before_end, &[(0, fits)]), None);
    assert_eq!(end_of_reading(line_before_end, &[(0, reaches_over)]), Some(("record length", LINE - HEADER + 1)));
    let all_but_a_word = (0, plain(due(0), LINE - 2 * HEADER));
    let last_word = |len| (LINE - HEADER, plain(due(0), len));
    assert_eq!(end_of_reading(line_before_end, &[all_but_a_word, last_word(0)]), None);
    assert_eq!(end_of_reading(line_before_end, &[all_but_a_word, last_word(1)]), Some(("record length", 1)));
}

/// Whatever its length, a described record is stepped over to the next multiple of 8; a head is one of 40 bytes that are there.
#[test]
fn a_head_is_what_stands_whole_behind_a_descriptor_inside_the_ring() {
    let due = Header::stamp_of_lap(0);
    let described = |length| Header::record(due, length, crate::layout::Mark::Described);
    for length in 16..=72 {
        let next = round_up(HEADER + length, HEADER);
        for at in [0, HEADER, MIN_CAPACITY - next - HEADER, MIN_CAPACITY - next] {
            let memory = Memory::starting_at(MIN_CAPACITY, at);
            let word = |index: u64| memory.word((CONTROL_SIZE + index % MIN_CAPACITY) / 8);
            word(at).store(described(length).bits(), Ordering::Relaxed);
            word(at + next).store(plain(stamp(at + next, MIN_CAPACITY), 0).bits(), Ordering::Relaxed);
            let (_, mut consumer) = memory.halves(Barrier::Polling);
            let record = consumer.take().unwrap().unwrap();
            assert!(record.is_described() && record.len() as u64 == length);
            assert_eq!(record.head().is_some(), length == 56, "{length}");
            assert!(
                record.head().is_none_or(|head| memory.holds(head, 40) && head == record.as_ptr().wrapping_add(16))
            );
            let behind = consumer.take().unwrap().unwrap();
            assert!(behind.is_plain() && behind.len() == 0, "behind a record of {length} at {at}");
        }
        // One that reaches over the end of the area.
        let over = MIN_CAPACITY - round_up(length, HEADER);
        assert_eq!(end_of_reading(over, &[(0, described(length))]), Some(("record length", length)));
    }
}

#[test]
fn padding_that_would_not_step_forward_is_refused() {
    let due = |position: u64| stamp(position, MIN_CAPACITY);
    let pad = Header::pad(due(0));
    let refused = |header: Header| Some(("padding at the start of a lap", header.bits()));
    assert_eq!(end_of_reading(HEADER, &[(0, pad)]), None);
    assert_eq!(end_of_reading(0, &[(0, pad)]), refused(pad), "no step at all");
    let next = Header::pad(due(MIN_CAPACITY));
    assert_eq!(end_of_reading(HEADER, &[(0, pad), (MIN_CAPACITY - HEADER, next)]), refused(next));
    let long = Header::from_bits(pad.bits() + 1);
    assert_eq!(end_of_reading(HEADER, &[(0, long)]), Some(("record length", long.length())));
}

/// An observer walks from a credit that anybody may have written.
#[test]
fn a_look_at_a_ring_survives_every_credit_and_head() {
    for word in [3, 7, MIN_CAPACITY - 1, MIN_CAPACITY - 8, 1 << 40, (1 << 62) + 4, u64::MAX - 7, u64::MAX] {
        let memory = Memory::used_before(MIN_CAPACITY, 0, |index| stamp(word, MIN_CAPACITY) | index);
        let control = memory.ring();
        control.control().consumer_signals.credit.store(word, Ordering::Relaxed);
        control.control().consumer_signals.messages.store(word, Ordering::Relaxed);
        assert!(memory.ring().status().used <= MIN_CAPACITY);
        control.control().consumer.head.store(word, Ordering::Relaxed);
        assert!(memory.ring().status().used <= MIN_CAPACITY);
    }
}

#[test]
fn credit_and_heads_that_cannot_be_are_refused_by_name() {
    let memory = Memory::zeroed(MIN_CAPACITY);
    let (mut producer, _) = memory.halves(Barrier::Polling);
    assert_eq!(producer.try_push(b"one"), Ok(()));
    let control = memory.ring();
    control.control().consumer_signals.credit.store(LINE + 1, Ordering::Relaxed);
    let past_the_tail = loop {
        if let Err(refusal) = producer.try_push(&[0; 900]) {
            break refusal;
        }
        control.control().consumer_signals.credit.store(u64::MAX, Ordering::Relaxed);
    };
    assert!(matches!(past_the_tail, ReserveError::Violation(Violation { field: "credit", .. })), "{past_the_tail}");
    for head in [u64::MAX, 1 << 40, 4] {
        control.control().consumer.head.store(head, Ordering::Relaxed);
        let violation = producer.undelivered().err().expect("an impossible head");
        assert_eq!((violation.field, violation.value), ("head", head));
    }
}

// ---- two threads

const MESSAGES: u64 = if cfg!(miri) { 300 } else { 300_000 };

/// The message with this number: its number, then noise that follows from it.
fn message(number: u64, max: u64, buffer: &mut Vec<u8>) {
    let mut random = Random(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    random.next();
    let len = 8 + match random.below(64) {
        0 => random.below(max - 7),
        1..8 => random.below(400),
        _ => random.below(64),
    };
    buffer.clear();
    buffer.extend(number.to_ne_bytes());
    while (buffer.len() as u64) < len {
        buffer.extend(random.next().to_ne_bytes());
    }
    buffer.truncate(len as usize);
}

fn produce_all(mut producer: Producer<'_>) {
    let mut random = Random(11);
    let mut buffer = Vec::new();
    let max = producer.max_record();
    let mut number = 0;
    while number < MESSAGES {
        if random.below(3) == 0 {
            let mut batch = producer.batch();
            for _ in 0..=random.below(40) {
                message(number, max, &mut buffer);
                if number == MESSAGES || batch.push(&buffer).is_err() {
                    break;
                }
                number += 1;
            }
            batch.commit();
        } else {
            message(number, max, &mut buffer);
            match producer.try_push(&buffer) {
                Ok(()) => number += 1,
                Err(ReserveError::Full { .. }) => std::thread::yield_now(),
                Err(refusal) => panic!("{refusal}"),
            }
        }
    }
    producer.close();
}

/// Reads until the producer has closed or, so that its failure is not waited for, `gone`. Returns how many came.
fn consume_all(mut consumer: Consumer<'_>, max: u64, gone: impl Fn() -> bool) -> u64 {
    let mut random = Random(13);
    let mut expected = Vec::new();
    let mut found = Vec::new();
    let mut number = 0;
    loop {
        let before = number;
        let closed = consumer.is_peer_closed() || gone();
        if random.below(2) == 0 {
            let mut batch = consumer.read_batch();
            for _ in 0..=random.below(20) {
                let Some(found) = read_next(&mut batch).expect("an honest producer") else { break };
                message(number, max, &mut expected);
                assert!(found == expected, "message {number}");
                number += 1;
            }
        } else if let Some(record) = consumer.try_read().expect("an honest producer") {
            message(number, max, &mut expected);
            found.resize(record.len(), 0);
            record.read_at(0, &mut found).expect("as long as the record");
            assert!(found == expected, "message {number}");
            number += 1;
        }
        if number == before {
            if closed && !consumer.is_ready() {
                return number;
            }
            consumer.keep_distance();
            std::thread::yield_now();
        }
    }
}

#[test]
fn two_threads_pass_every_message_whole_and_in_order() {
    for (capacity, start) in [(MIN_CAPACITY, (MIN_CAPACITY << 32) - 3 * MIN_CAPACITY), (64 << 10, 0)] {
        let memory = Memory::starting_at(capacity, start);
        let (producer, consumer) = memory.halves(Barrier::Polling);
        let max = producer.max_record();
        let received = std::thread::scope(|scope| {
            let producing = scope.spawn(|| produce_all(producer));
            consume_all(consumer, max, || producing.is_finished())
        });
        assert_eq!(received, MESSAGES);
    }
}

/// The header of a plain record.
fn plain(stamp: u64, length: u64) -> Header {
    Header::record(stamp, length, crate::layout::Mark::Plain)
}
