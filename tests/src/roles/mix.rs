//! Sends and receives a [`Mix`] in every way that the interface has, on every lane.
//!
//! Each side draws its ways from a sequence of its own: what one side does says nothing of what the other does.

use super::kill::Log;
use super::{Settings, say};
use crate::{Mix, Random, system};
use ipc_core::router::Override;
use ipc_core::{Connection, Held, Lane, Receiver, RecvError, Resource, SendError, Sender};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The waiting of a call that must not last for ever.
const LONG: Duration = Duration::from_secs(20);
/// The most bytes that a side keeps for itself, in detached loans or in held messages.
const KEPT: usize = 3 << 20;
/// The longest message of a mix, in bytes.
pub const LONGEST: u64 = 5 << 20;

fn wait_for(fd: &impl AsFd, most: Duration) -> bool {
    let most = Timespec::try_from(most).expect("not that long");
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&most)).expect("a poll") > 0
}

/// The side that sends a mix.
pub(super) struct Outgoing<'s> {
    sender: &'s mut Sender,
    mix: Mix,
    random: Random,
    /// The message that is due.
    pub(super) number: u64,
    end: u64,
    log: Option<&'s Log>,
    message: Vec<u8>,
}

impl<'s> Outgoing<'s> {
    /// Sends messages 0 to `end - 1`.
    pub(super) fn new(sender: &'s mut Sender, mix: Mix, random: Random, end: u64, log: Option<&'s Log>) -> Self {
        Self { sender, mix, random, number: 0, end, log, message: Vec::new() }
    }

    fn about_to(&self, count: u64) {
        self.log.inspect(|log| log.about_to(count));
    }

    /// The messages that were due up to here are sent.
    fn sent(&mut self, count: u64) {
        self.number += count;
        self.log.inspect(|log| log.has(self.number));
    }

    /// Sends some messages, or none, in one of the ways. False: there are no more.
    ///
    /// # Errors
    /// What the library said, if it is not for this side to deal with.
    pub(super) fn step(&mut self) -> Result<bool, SendError> {
        if self.number == self.end {
            return Ok(false);
        }
        match self.random.below(40) {
            0..2 => self.reroute(),
            2 => {
                if let Err(error) = self.sender.trim(Duration::ZERO)
                    && !matches!(error, SendError::WouldBlock { .. })
                {
                    return Err(error);
                }
            }
            3 => self.give_up()?,
            _ => {}
        }
        if self.mix.files(self.number) > 0 {
            return self.with_files().map(|()| true);
        }
        match self.random.below(16) {
            0..3 => self.copied(|sender, message, _| sender.send(message)),
            3 => self.copied(|sender, message, _| sender.send_timeout(message, LONG)),
            4..6 => self.copied(try_until_sent),
            6..8 => self.vectored(),
            8..10 => self.reserved(),
            10..12 => self.batched(),
            12..14 => self.lent(),
            _ => self.detached(),
        }?;
        Ok(true)
    }

    /// Fixes a lane, or a threshold, or nothing.
    fn reroute(&mut self) {
        let route = match self.random.below(8) {
            at @ 0..4 => Override::Lane(Lane::ALL[at as usize]),
            4 => Override::Threshold(self.random.below(100_000)),
            _ => Override::Auto,
        };
        // Not every connection has every lane.
        let _ = self.sender.set_route(route);
    }

    /// Sends the message that is due. The lane that was fixed may not take it, and a call that does not wait may not send it in pieces:
    /// then it is sent on another lane by one that waits.
    fn copied(
        &mut self,
        send: impl FnOnce(&mut Sender, &[u8], &mut Random) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        self.mix.write(self.number, &mut self.message);
        self.about_to(self.number + 1);
        match send(self.sender, &self.message, &mut self.random) {
            Err(SendError::TooLarge { .. }) => {
                self.sender.set_route(Override::Auto).expect("always there");
                self.sender.send(&self.message)?;
            }
            result => result?,
        }
        self.sent(1);
        Ok(())
    }

    fn vectored(&mut self) -> Result<(), SendError> {
        self.copied(|sender, message, random| {
            let mut slices = Vec::new();
            let mut rest = message;
            for _ in 0..random.below(6) {
                let (slice, behind) = rest.split_at(random.below(rest.len() as u64 + 1) as usize);
                slices.push(slice);
                rest = behind;
            }
            slices.push(rest);
            sender.send_vectored(&slices)
        })
    }

    fn reserved(&mut self) -> Result<(), SendError> {
        self.copied(|sender, message, random| {
            let middle = random.below(message.len() as u64 + 1) as usize;
            let mut reservation = match random.below(2) {
                0 => sender.reserve(message.len())?,
                _ => sender.reserve_timeout(message.len(), LONG)?,
            };
            reservation.write_at(middle, &message[middle..]);
            reservation.write_at(0, &message[..middle]);
            reservation.commit();
            Ok(())
        })
    }

    fn batched(&mut self) -> Result<(), SendError> {
        let end = self.end.min(self.number + 1 + self.random.below(20));
        let mut count = 0;
        let log = self.log;
        let mut batch = self.sender.batch();
        while self.number + count < end && self.mix.files(self.number + count) == 0 {
            self.mix.write(self.number + count, &mut self.message);
            log.inspect(|log| log.about_to(self.number + count + 1));
            match batch.push_timeout(&self.message, LONG) {
                Ok(()) => count += 1,
                // Not on this lane.
                Err(SendError::TooLarge { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        batch.publish()?;
        self.sent(count);
        if count == 0 { self.copied(|sender, message, _| sender.send(message)) } else { Ok(()) }
    }

    fn lent(&mut self) -> Result<(), SendError> {
        let (mix, number, len) = (self.mix, self.number, self.mix.len(self.number));
        self.about_to(number + 1);
        let more = self.random.below(2) as usize * self.random.below(1000) as usize;
        let mut loan = match self.random.below(3) {
            0 => self.sender.loan(len + more)?,
            1 => self.sender.loan_timeout(len + more, LONG)?,
            _ => {
                // Lent a second time, it is there at once.
                while let Err(error) = self.sender.try_loan(len + more).map(drop) {
                    match error {
                        SendError::WouldBlock { .. } => await_room(self.sender)?,
                        error => return Err(error),
                    }
                }
                self.sender.loan(len + more)?
            }
        };
        loan.set_len(len);
        mix.fill(number, &mut loan);
        loan.send()?;
        self.sent(1);
        Ok(())
    }

    /// Loans that exist side by side, were lent in any order, and some written by another thread.
    fn detached(&mut self) -> Result<(), SendError> {
        let (mix, first) = (self.mix, self.number);
        let count = (2 + self.random.below(4)).min(self.end - first) as usize;
        let mut order: Vec<_> = (0..count).collect();
        for at in 0..count {
            order.swap(at, self.random.below(count as u64) as usize);
        }
        let mut loans: Vec<_> = (0..count).map(|_| None).collect();
        let mut kept = 0;
        for at in order {
            let number = first + at as u64;
            let len = mix.len(number);
            if mix.files(number) > 0 || kept + len > KEPT {
                continue;
            }
            // Others of its kind may be what it would wait for.
            match self.sender.loan_timeout(len, Duration::from_millis(20)) {
                Ok(loan) => {
                    if let Ok(mut loan) = loan.detach() {
                        match self.random.below(8) {
                            0 => std::thread::scope(|scope| {
                                scope.spawn(|| mix.fill(number, &mut loan));
                            }),
                            _ => mix.fill(number, &mut loan),
                        }
                        loans[at] = Some(loan);
                        kept += len;
                    }
                }
                Err(SendError::TimedOut { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        for loan in loans {
            match loan {
                Some(loan) => {
                    self.about_to(self.number + 1);
                    self.sender.send_loan(loan).map_err(|unsent| unsent.error)?;
                    self.sent(1);
                }
                None if mix.files(self.number) > 0 => self.with_files()?,
                None => self.copied(|sender, message, _| sender.send(message))?,
            }
        }
        Ok(())
    }

    fn with_files(&mut self) -> Result<(), SendError> {
        let files = self.mix.make_files(self.number);
        let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        let tries = self.random.below(2) == 0;
        self.mix.write(self.number, &mut self.message);
        self.about_to(self.number + 1);
        loop {
            let sent = match tries {
                true => self.sender.try_send_with_files(&self.message, &files),
                false => self.sender.send_with_files(&self.message, &files),
            };
            match sent {
                Ok(()) => break,
                Err(SendError::WouldBlock { .. }) => await_room(self.sender)?,
                Err(SendError::TooLarge { .. }) => {
                    self.sender.set_route(Override::Auto).expect("always there");
                    self.sender.send_with_files(&self.message, &files)?;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.sent(1);
        Ok(())
    }

    /// Begins something and lets it be: it must leave nothing behind.
    fn give_up(&mut self) -> Result<(), SendError> {
        let len = self.mix.len(self.number);
        let given_up = match self.random.below(4) {
            0 => self.sender.try_reserve(len).map(drop),
            1 => {
                // What travels on another lane than the ring would be sent at once.
                self.sender.set_route(Override::Threshold(64)).expect("always there");
                self.sender.batch().try_push(b"given up")
            }
            2 => self.sender.try_loan(len).map(drop),
            _ => self.sender.try_loan(len).map(|loan| {
                if let Ok(loan) = loan.detach() {
                    std::thread::spawn(move || drop(loan)).join().expect("it cannot fail");
                }
            }),
        };
        match given_up {
            Err(SendError::WouldBlock { .. } | SendError::TooLarge { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn try_until_sent(sender: &mut Sender, message: &[u8], _: &mut Random) -> Result<(), SendError> {
    loop {
        match sender.try_send(message) {
            Err(SendError::WouldBlock { resource, needed, free }) => {
                assert!(
                    needed > free || resource == Resource::Arena || message.len() as u64 > sender.max_reservation()
                );
                await_room(sender)?;
            }
            result => return result,
        }
    }
}

/// As an event loop does after [`SendError::WouldBlock`].
fn await_room(sender: &mut Sender) -> Result<(), SendError> {
    if sender.arm()? {
        assert!(wait_for(sender, LONG), "the wake-up of a sender is lost");
    } else {
        std::thread::yield_now();
    }
    Ok(())
}

/// The side that receives a mix.
pub(super) struct Incoming<'r> {
    receiver: &'r mut Receiver,
    mix: Mix,
    random: Random,
    /// The message that is due.
    pub(super) number: u64,
    log: Option<&'r Log>,
    buffer: Vec<u8>,
    kept: Kept,
}

/// Messages that are held.
struct Kept {
    mix: Mix,
    random: Random,
    held: Vec<(u64, Held)>,
    bytes: usize,
}

impl Kept {
    fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn is_enough(&self) -> bool {
        self.bytes > KEPT || self.held.len() > 40
    }

    fn keep(&mut self, number: u64, held: Held) {
        self.bytes += held.len();
        self.held.push((number, held));
    }

    /// Gives a message back, whichever; sometimes another thread does.
    fn let_go(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let (number, mut held) = self.held.swap_remove(self.random.below(self.held.len() as u64) as usize);
        self.bytes -= held.len();
        let mix = self.mix;
        let check = move || {
            mix.check(number, &held.to_vec()).unwrap_or_else(|wrong| panic!("held: {wrong}"));
            mix.check_files(number, &held.take_files()).unwrap_or_else(|wrong| panic!("held: {wrong}"));
            drop(held);
        };
        match self.random.below(8) {
            0 => std::thread::spawn(check).join().expect("it was held"),
            _ => check(),
        }
    }
}

impl<'r> Incoming<'r> {
    pub(super) fn new(receiver: &'r mut Receiver, mix: Mix, random: Random, log: Option<&'r Log>) -> Self {
        let buffer = vec![0; mix.longest()];
        let kept = Kept { mix, random: random.clone(), held: Vec::new(), bytes: 0 };
        Self { receiver, mix, random, number: 0, log, buffer, kept }
    }

    fn about_to(&self, count: u64) {
        self.log.inspect(|log| log.about_to(count));
    }

    fn consumed(&mut self, count: u64) {
        self.number += count;
        self.log.inspect(|log| log.has(self.number));
    }

    fn check(&self, number: u64, found: &[u8]) {
        self.mix.check(number, found).unwrap_or_else(|wrong| panic!("{wrong}"));
    }

    /// Receives some messages, or none, in one of the ways, and checks them: up to `most`, which is at least 1.
    ///
    /// # Errors
    /// What the library said, if it is not for this side to deal with.
    pub(super) fn step(&mut self, most: u64) -> Result<(), RecvError> {
        if self.random.below(8) == 0 || self.kept.is_enough() {
            self.kept.let_go();
        }
        match self.random.below(8) {
            0..3 => self.one(),
            3 => self.polled(),
            4..6 => self.copied(),
            _ => {
                // It may wait, and what is held may be what the sender waits for.
                self.let_all_go();
                self.batched(most)
            }
        }
    }

    fn one(&mut self) -> Result<(), RecvError> {
        self.about_to(self.number + 1);
        let patience = if self.kept.is_empty() { LONG } else { Duration::from_millis(20) };
        let endless = self.kept.is_empty() && self.random.below(2) == 0;
        let (mix, number, way) = (self.mix, self.number, self.random.below(3));
        let receiver = &mut *self.receiver;
        let mut message = match if endless { receiver.recv() } else { receiver.recv_timeout(patience) } {
            Ok(message) => message,
            Err(RecvError::TimedOut { .. }) if !self.kept.is_empty() => {
                self.kept.let_go();
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if way == 0 {
            self.kept.keep(number, message.hold());
        } else {
            let found = match message.as_sealed() {
                Some(bytes) if way == 1 => bytes.to_vec(),
                _ => message.to_vec(),
            };
            mix.check(number, &found).unwrap_or_else(|wrong| panic!("{} lane: {wrong}", message.lane()));
            mix.check_files(number, &message.take_files()).unwrap_or_else(|wrong| panic!("{wrong}"));
            drop(message);
        }
        self.consumed(1);
        Ok(())
    }

    fn polled(&mut self) -> Result<(), RecvError> {
        self.about_to(self.number + 1);
        let (mix, number, since) = (self.mix, self.number, Instant::now());
        loop {
            if let Some(mut message) = self.receiver.try_recv()? {
                mix.check(number, &message.to_vec()).unwrap_or_else(|wrong| panic!("{} lane: {wrong}", message.lane()));
                mix.check_files(number, &message.take_files()).unwrap_or_else(|wrong| panic!("{wrong}"));
                break;
            }
            let patience = if self.kept.is_empty() { LONG } else { Duration::from_millis(20) };
            if self.receiver.arm()? && !wait_for(self.receiver, patience) {
                assert!(!self.kept.is_empty(), "the wake-up for message {number} is lost");
                self.kept.let_go();
            }
            assert!(since.elapsed() < 2 * LONG, "message {number} does not come");
        }
        self.consumed(1);
        Ok(())
    }

    fn copied(&mut self) -> Result<(), RecvError> {
        let (number, len) = (self.number, self.mix.len(self.number));
        self.about_to(number + 1);
        if len > 0 && self.random.below(4) == 0 {
            match self.receiver.recv_into_timeout(&mut self.buffer[..len - 1], Duration::from_millis(1)) {
                Err(RecvError::TooShort(short)) => assert_eq!((short.message, short.buffer), (len, len - 1)),
                Err(RecvError::TimedOut { .. }) => {}
                Err(error) => return Err(error),
                Ok(other) => panic!("{other} bytes instead of {len} found room in one less"),
            }
        }
        let endless = self.kept.is_empty() && self.random.below(2) == 0;
        let since = Instant::now();
        let copied = loop {
            if endless {
                break self.receiver.recv_into(&mut self.buffer)?;
            }
            // Mostly over while a large message is under way.
            let patience = Duration::from_micros(self.random.below(400));
            match self.receiver.recv_into_timeout(&mut self.buffer, patience) {
                Err(RecvError::TimedOut { .. }) => self.kept.let_go(),
                result => break result?,
            }
            assert!(since.elapsed() < 2 * LONG, "message {number} does not come");
        };
        self.check(number, &self.buffer[..copied]);
        self.consumed(1);
        Ok(())
    }

    /// Gives all held messages back.
    pub(super) fn let_all_go(&mut self) {
        while !self.kept.is_empty() {
            self.kept.let_go();
        }
    }

    fn batched(&mut self, most: u64) -> Result<(), RecvError> {
        let limit = (1 + self.random.below(30)).min(most);
        let some = if self.random.below(2) == 0 { limit } else { 1 + self.random.below(limit) };
        self.about_to(self.number + limit);
        let (mix, number, mut taken) = (self.mix, self.number, 0);
        let mut batch = self.receiver.recv_batch(limit)?;
        while taken < some {
            let Some(message) = batch.try_next()? else { break };
            mix.check(number + taken, &message.to_vec()).unwrap_or_else(|wrong| panic!("in a batch: {wrong}"));
            let files: Vec<OwnedFd> = if mix.files(number + taken) > 0 { batch.take_files() } else { Vec::new() };
            mix.check_files(number + taken, &files).unwrap_or_else(|wrong| panic!("in a batch: {wrong}"));
            taken += 1;
        }
        drop(batch);
        self.consumed(taken);
        Ok(())
    }
}

/// Both directions at once over one connection: what `seed` says goes out, what `incoming_seed` says comes in. At the end nothing is
/// left of the arenas, on either side.
///
/// # Panics
/// If a message is lost, doubled, torn or out of order, or memory stays.
pub fn mixed_both_ways(connection: Connection, seed: u64, incoming_seed: u64, count: u64) {
    let (mut sender, mut receiver) = connection.split();
    let record = sender.max_reservation();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mix = Mix::new(seed, record, LONGEST);
            let mut out = Outgoing::new(&mut sender, mix, Random::new(!seed), count, None);
            while out.step().unwrap_or_else(|error| panic!("message {}: {error}", out.number)) {}
            assert_eq!(sender.sent(), count);
            empty_arena(&mut sender);
            // In the queue: the arena would begin anew.
            sender.set_route(Override::Threshold(64)).expect("always there");
            sender.send(b"end").expect("the other side waits for it");
        });
        scope.spawn(move || {
            let mix = Mix::new(incoming_seed, record, LONGEST);
            let mut inward = Incoming::new(&mut receiver, mix, Random::new(incoming_seed ^ seed), None);
            while inward.number < count {
                let left = count - inward.number;
                inward.step(left).unwrap_or_else(|error| panic!("message {}: {error}", inward.number));
            }
            drop(inward);
            assert_eq!(receiver.received(), count);
            assert_eq!(receiver.recv_timeout(LONG).expect("one more").to_vec(), b"end");
            assert_eq!(receiver.mapped(), 0, "regions that were given up stay mapped");
            match receiver.recv_timeout(LONG) {
                Err(RecvError::Disconnected { received, .. }) => assert_eq!(received, count + 1),
                Err(error) => panic!("after the last message: {error}"),
                Ok(message) => panic!("{} bytes after the last message", message.len()),
            };
        });
    });
}

/// Waits until every block has come back, and gives the arena up.
fn empty_arena(sender: &mut Sender) {
    let since = Instant::now();
    loop {
        match sender.trim(Duration::ZERO) {
            Ok(_) | Err(SendError::WouldBlock { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        let arena = sender.arena();
        if (arena.size, arena.used, arena.blocks) == (0, 0, 0) {
            return;
        }
        assert!(since.elapsed() < LONG, "the arena does not empty: {arena:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The other end of [`mixed_both_ways`].
pub(super) fn play(settings: &Settings) {
    let connection = settings.connection();
    mixed_both_ways(
        connection,
        settings.number("seed", 1),
        settings.number("incoming", 0),
        settings.number("count", 0),
    );
    assert_eq!(system::segments(), Vec::<String>::new(), "mappings stay behind");
    say("done");
}
