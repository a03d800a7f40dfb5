//! Dies, and survives, in the middle of a mix: on any lane, with loans lent and messages held.

use super::kill::{Killer, Log};
use super::mix::{Incoming, LONGEST, Outgoing};
use super::{Settings, StrategyName, mode_named, say};
use crate::{Mix, Random, system};
use ipc_core::{Connection, Credit, ListenOptions, Listener, Mode, RecvError, SendError};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Knowing of a death takes milliseconds, even if megabytes are to be taken in before. This long means that the survivor hangs.
const HANGS: Duration = Duration::from_secs(5);

/// Sends a mix until it is killed.
pub(super) fn sender(settings: &Settings) {
    let log = Log::open(settings);
    let mut connection = settings.connection();
    let (seed, record) = (settings.number("seed", 0), connection.sender().max_reservation());
    let mix = Mix::new(seed, record, LONGEST);
    let mut out = Outgoing::new(connection.sender(), mix, Random::new(!seed), u64::MAX, Some(&log));
    loop {
        out.step().expect("the survivor lives");
    }
}

/// Receives a mix until it is killed.
pub(super) fn receiver(settings: &Settings) {
    let log = Log::open(settings);
    let mut connection = settings.connection();
    let (seed, record) = (settings.number("seed", 0), connection.sender().max_reservation());
    let mix = Mix::new(seed, record, LONGEST);
    let mut inward = Incoming::new(connection.receiver(), mix, Random::new(!seed), Some(&log));
    loop {
        inward.step(u64::MAX).expect("the survivor lives");
    }
}

/// One side's preparations for many rounds.
struct Survivor<'s> {
    settings: &'s Settings,
    log: Log,
    random: Random,
    listener: Listener,
    /// How many messages went or came, in all rounds.
    messages: u64,
    /// How many of them could be taken back.
    taken_back: u64,
    slowest: Duration,
}

impl<'s> Survivor<'s> {
    fn new(settings: &'s Settings) -> Self {
        let mut credit = Credit::default();
        // Less than what is sent until the kill: it is full now and then. Enough for copies to have a region to themselves.
        credit.arena = 32 << 20;
        let options = ListenOptions::new().capacity(16 << 10).credit(credit);
        let listener = options.bind(settings.text("path")).expect("a free path");
        Self {
            settings,
            log: Log::open(settings),
            random: Random::new(settings.number("seed", 1)),
            listener,
            messages: 0,
            taken_back: 0,
            slowest: Duration::ZERO,
        }
    }

    /// Runs all rounds; nothing may stay behind.
    fn run(mut self, role: &str, mut round: impl FnMut(&mut Self, Connection, &Killer, u64)) {
        let rounds: u64 = self.settings.number("rounds", 0);
        let mode = mode_named(self.settings.text("mode")).expect("a mode");
        let (mut descriptors, memory) = (None, system::shared_memory());
        for number in 0..rounds {
            self.log.clear();
            let seed = self.random.next_u64();
            let mut killer = Killer::new(self.start_victim(role, mode, seed));
            let connection = self.listener.accept_timeout(Duration::from_secs(20));
            let mut connection = connection.unwrap_or_else(|error| panic!("round {number}: {error}"));
            let most = [2_000, 12_000, 60_000][self.random.below(3) as usize];
            killer.kill_after(Duration::from_micros(self.random.below(most)));
            let strategy = [StrategyName::Adaptive, StrategyName::Sleep][self.random.below(2) as usize];
            connection.set_wait_strategy(strategy.strategy());
            round(&mut self, connection, &killer, seed);
            drop(killer);
            assert_eq!(system::segments(), Vec::<String>::new(), "round {number}, seed {seed}: a mapping stays behind");
            // The library keeps one descriptor for itself from its first connection on.
            let open = system::open_descriptors();
            let first = *descriptors.get_or_insert(open);
            assert_eq!(open, first, "round {number}, seed {seed}: a descriptor stays behind");
            if number % 500 == 499 {
                say(format_args!("progress {} of {rounds}: {}", number + 1, self.report()));
            }
        }
        let (now, least) = (system::shared_memory(), 128 << 20);
        assert!(now < memory + least, "shared memory grew from {memory} to {now} bytes in {rounds} rounds");
        say(format_args!("report {rounds} rounds: {}", self.report()));
    }

    fn report(&self) -> String {
        let Self { messages, taken_back, slowest, .. } = self;
        format!("{messages} messages, {taken_back} taken back, a death known within {slowest:?}")
    }

    fn start_victim(&self, role: &str, mode: Mode, seed: u64) -> Child {
        let mut command = Command::new(self.settings.text("victim"));
        command.arg(role).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.arg(format!("mode={mode}")).arg(format!("seed={seed}")).arg(format!("arena={}", 24 << 20));
        command.args(["path", "log"].map(|key| format!("{key}={}", self.settings.text(key))));
        command.spawn().expect("a victim")
    }

    /// The victim's death is known now.
    fn known(&mut self, killer: &Killer) {
        let took = killer.since_death();
        assert!(took < HANGS, "it took {took:?} to know of the death");
        self.slowest = self.slowest.max(took);
    }
}

/// Receives from senders that are killed: everything they committed, whole, and nothing that was not finished.
pub(super) fn survive_sender(settings: &Settings) {
    let mut buffer = vec![0; LONGEST as usize];
    Survivor::new(settings).run("lanes-kill-sender", |survivor, mut connection, killer, seed| {
        let mix = Mix::new(seed, connection.sender().max_reservation(), LONGEST);
        let mut inward = Incoming::new(connection.receiver(), mix, Random::new(survivor.random.next_u64()), None);
        let end = loop {
            if let Err(error) = inward.step(u64::MAX) {
                break error;
            }
        };
        let number = inward.number;
        assert!(
            matches!(end, RecvError::Disconnected { received, closed: false } if received == number),
            "seed {seed}, after {number}: {end}"
        );
        survivor.known(killer);
        // What is held outlives its sender; it is checked as it goes.
        inward.let_all_go();
        drop(inward);
        let receiver = connection.receiver();
        assert!(matches!(receiver.recv().map(drop), Err(RecvError::Disconnected { .. })), "gone is gone");
        assert!(matches!(receiver.recv_into(&mut buffer), Err(RecvError::Disconnected { .. })), "gone is gone");
        assert!(matches!(receiver.recv_batch(4).map(drop), Err(RecvError::Disconnected { .. })), "gone is gone");
        let until = Instant::now() + HANGS;
        let end = loop {
            match receiver.try_recv() {
                Ok(None) => {
                    assert!(Instant::now() < until, "seed {seed}: a receiver that never waits does not learn it")
                }
                Ok(Some(message)) => panic!("seed {seed}: {} bytes after the end", message.len()),
                Err(error) => break error,
            }
        };
        assert!(matches!(end, RecvError::Disconnected { .. }), "gone is gone: {end}");
        let (least, most) = survivor.log.bounds();
        assert!((least..=most).contains(&number), "seed {seed}: {number} arrived, {least} to {most} were sent");
        survivor.messages += number;
    });
}

/// Sends to receivers that are killed: what they did not consume can be taken back, whole and in order, and then the arena is empty.
pub(super) fn survive_receiver(settings: &Settings) {
    let mode = mode_named(settings.text("mode")).expect("a mode");
    let says_late = matches!(mode, Mode::Kernel | Mode::Hybrid);
    Survivor::new(settings).run("lanes-kill-receiver", |survivor, mut connection, killer, seed| {
        let mix = Mix::new(seed, connection.sender().max_reservation(), LONGEST);
        let random = Random::new(survivor.random.next_u64());
        let mut out = Outgoing::new(connection.sender(), mix, random, u64::MAX, None);
        let end = loop {
            if let Err(error) = out.step() {
                break error;
            }
        };
        let SendError::Disconnected { undelivered } = end else { panic!("seed {seed}: after {}: {end}", out.number) };
        survivor.known(killer);
        drop(out);
        let sender = connection.sender();
        assert!(matches!(sender.send(b"x"), Err(SendError::Disconnected { .. })), "gone is gone");
        let (sent, left) = (sender.sent(), sender.undelivered().expect("the victim was honest"));
        assert_eq!(left.len() as u64, undelivered, "seed {seed}");
        let first = sent - undelivered;
        let (least, most) = survivor.log.bounds();
        // Where consuming is told in packets, the victim may have consumed more than it has said.
        let least = if says_late { 0 } else { least };
        assert!((least..=most).contains(&first), "seed {seed}: {first} were consumed, the log says {least} to {most}");
        for (at, message) in left.iter().enumerate() {
            let checked = mix.check(first + at as u64, message);
            checked.unwrap_or_else(|wrong| panic!("seed {seed}: taken back: {wrong}"));
        }
        assert_eq!(sender.take_undelivered().expect("it is gone"), left);
        let arena = sender.arena();
        assert_eq!((arena.used, arena.blocks), (0, 0), "seed {seed}: what the victim had comes back");
        assert!(sender.undelivered().expect("it is gone").is_empty(), "taken back is taken back");
        assert!(matches!(sender.send(b"x"), Err(SendError::Disconnected { undelivered: 0 })), "gone is gone");
        survivor.messages += sent;
        survivor.taken_back += undelivered;
    });
}
