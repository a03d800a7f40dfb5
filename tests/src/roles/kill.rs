//! Dies, and survives, in mid-stream.
//!
//! The victim logs what it is about to do and what it has done to a page that outlives it, so that the survivor knows within
//! one call what it must find.

use super::{Settings, StrategyName, say};
use crate::shared::Mapping;
use crate::{Random, Stream, system};
use ipc_core::{ConnectOptions, Connection, ListenOptions, Listener, RecvError, SendError};
use std::fmt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Where the victim logs how many messages it had sent (or consumed) for certain.
const SENT_AT_LEAST: usize = 0;
/// Where the victim logs how many it can have sent (or consumed), counting the call it is in.
const SENT_AT_MOST: usize = 8;

/// Knowing of a death takes milliseconds. This long means that the survivor hangs.
const HANGS: Duration = Duration::from_secs(1);

/// What a victim does when it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Single = 0,
    InPlace = 1,
    Batches = 2,
    Bursts = 3,
    Nothing = 4,
}

impl Doing {
    const ALL: [Self; 5] = [Self::Single, Self::InPlace, Self::Batches, Self::Bursts, Self::Nothing];

    fn of(settings: &Settings) -> Self {
        Self::ALL[settings.number("doing", 0_usize) % Self::ALL.len()]
    }
}

/// The victim's log of one round.
pub(super) struct Log(Mapping);

impl Log {
    pub(super) fn open(settings: &Settings) -> Self {
        Self(Mapping::counters(settings.text("log").as_ref()))
    }

    pub(super) fn clear(&self) {
        self.about_to(0);
        self.has(0);
    }

    pub(super) fn about_to(&self, count: u64) {
        self.0.word(SENT_AT_MOST).store(count, Ordering::SeqCst);
    }

    pub(super) fn has(&self, count: u64) {
        self.0.word(SENT_AT_LEAST).store(count, Ordering::SeqCst);
    }

    pub(super) fn bounds(&self) -> (u64, u64) {
        (self.0.word(SENT_AT_LEAST).load(Ordering::SeqCst), self.0.word(SENT_AT_MOST).load(Ordering::SeqCst))
    }
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Sends until it is killed.
pub(super) fn sender(settings: &Settings) {
    let log = Log::open(settings);
    let mut connection = settings.connection();
    let stream = Stream::new(settings.number("seed", 0), connection.sender().max_reservation());
    let (doing, mut random, mut message) = (Doing::of(settings), Random::new(1), Vec::new());
    let mut number = 0;
    loop {
        stream.write(number, &mut message);
        log.about_to(number + 1);
        match doing {
            Doing::Single | Doing::Bursts | Doing::Nothing => connection.send(&message).expect("the survivor lives"),
            Doing::InPlace => {
                let mut reservation = connection.reserve(message.len()).expect("the survivor lives");
                reservation.write_at(0, &message);
                reservation.commit();
            }
            Doing::Batches => {
                let end = number + 1 + random.below(20);
                log.about_to(end);
                let mut batch = connection.batch();
                batch.push(&message).expect("the survivor lives");
                while number + 1 < end {
                    number += 1;
                    stream.write(number, &mut message);
                    batch.push(&message).expect("the survivor lives");
                }
                batch.publish().expect("a usable connection");
            }
        }
        number += 1;
        log.has(number);
        match doing {
            Doing::Nothing if number == 50 => sleep_for_ever(),
            Doing::Bursts if number.is_multiple_of(30) => std::thread::sleep(Duration::from_micros(random.below(400))),
            _ => {}
        }
    }
}

/// Receives until it is killed.
pub(super) fn receiver(settings: &Settings) {
    let log = Log::open(settings);
    let mut connection = settings.connection();
    let (doing, mut random, mut number) = (Doing::of(settings), Random::new(1), 0);
    loop {
        match doing {
            Doing::Batches => {
                let limit = 1 + random.below(20);
                log.about_to(number + limit);
                let mut batch = connection.recv_batch(limit).expect("the survivor lives");
                while batch.try_next().expect("the survivor is honest").is_some() {
                    number += 1;
                }
                drop(batch);
            }
            _ => {
                log.about_to(number + 1);
                let message = connection.recv().expect("the survivor lives");
                number += 1;
                if doing == Doing::InPlace {
                    std::hint::black_box(message.to_vec());
                }
                drop(message);
            }
        }
        log.has(number);
        match doing {
            Doing::Nothing if number == 50 => sleep_for_ever(),
            Doing::Bursts if number.is_multiple_of(30) => std::thread::sleep(Duration::from_micros(random.below(400))),
            _ => {}
        }
    }
}

/// What came of many rounds: the times from the kill until the survivor knew.
#[derive(Debug, Default)]
struct Report {
    /// Each time, in microseconds; in mid-stream this includes taking in what was still to come.
    busy: Vec<u64>,
    /// The same, where the survivor was blocked and nothing was to come.
    blocked: Vec<u64>,
    /// Rounds in which the victim died before there was a connection.
    early: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, times) in [("busy", &self.busy), ("blocked", &self.blocked)] {
            let mut times = times.clone();
            times.sort_unstable();
            let at = |share: f64| times.get((times.len().saturating_sub(1) as f64 * share) as usize).unwrap_or(&0);
            let (half, most, all) = (at(0.5), at(0.99), at(1.0));
            write!(out, "{what}: {} rounds, known after (us) median {half} p99 {most} max {all}; ", times.len())?;
        }
        write!(out, "died before a connection: {}", self.early)
    }
}

/// One side's preparations for many rounds.
struct Survivor<'s> {
    settings: &'s Settings,
    log: Log,
    random: Random,
    report: Report,
    /// What the victim of this round does.
    doing: Doing,
    /// The survivor listens, and the victim connects; or the other way round.
    listener: Option<Listener>,
}

impl<'s> Survivor<'s> {
    fn new(settings: &'s Settings) -> Self {
        let log = Log::open(settings);
        let seed = settings.number("seed", 1);
        let listener = settings.number("listen", true).then(|| {
            let options = ListenOptions::new().capacity(16 << 10).max_connections(2).max_memory(1 << 20);
            options.bind(settings.text("path")).expect("a free path")
        });
        Self { settings, log, random: Random::new(seed), report: Report::default(), doing: Doing::Single, listener }
    }

    /// Runs all rounds; nothing may stay behind.
    fn run(mut self, role: &str, mut round: impl FnMut(&mut Self, Connection, &Killer, Stream)) {
        let rounds: u64 = self.settings.number("rounds", 0);
        let (mut descriptors, memory) = (None, system::shared_memory());
        for number in 0..rounds {
            self.log.clear();
            let doing = Doing::ALL[(number % 5) as usize];
            self.doing = doing;
            let mut killer = Killer::new(self.start_victim(role, doing, number));
            // One round in eight: the victim dies around the handshake.
            let early = number % 8 == 7;
            let connection = if early {
                killer.kill_after(Duration::from_micros(self.random.below(5_000)));
                self.connection()
            } else {
                let connection = self.connection();
                let most = if doing == Doing::Nothing { 20_000 } else { 3_000 };
                killer.kill_after(Duration::from_micros(self.random.below(most)));
                connection
            };
            match connection {
                Some(mut connection) => {
                    let strategy = [StrategyName::Adaptive, StrategyName::Sleep, StrategyName::Busy];
                    connection.set_wait_strategy(strategy[self.random.below(3) as usize].strategy());
                    let stream = Stream::new(number, connection.sender().max_reservation());
                    round(&mut self, connection, &killer, stream);
                }
                None => {
                    assert!(early, "round {number}: no connection, though the victim lived");
                    self.report.early += 1;
                }
            }
            drop(killer);
            assert_eq!(system::segments(), Vec::<String>::new(), "round {number}: a mapping stays behind");
            // The library keeps one descriptor for itself from its first connection on.
            let open = system::open_descriptors();
            let first = *descriptors.get_or_insert(open);
            assert_eq!(open, first, "round {number}: a descriptor stays behind");
            if number % 500 == 499 {
                say(format_args!("progress {} of {rounds}: {}", number + 1, self.report));
            }
        }
        // What each round uses, left behind by a tenth of the rounds. What others on the machine use comes and goes; what was left behind
        // stays.
        let least = (rounds * 33_000 / 10).max(64 << 20);
        let until = Instant::now() + Duration::from_secs(20);
        while system::shared_memory() >= memory + least {
            let now = system::shared_memory();
            assert!(Instant::now() < until, "shared memory grew from {memory} to {now} bytes in {rounds} rounds");
            std::thread::sleep(Duration::from_millis(100));
        }
        if self.listener.is_none() {
            // The last victim left its socket; to dial it is to find out, and to clean up.
            let refused = ConnectOptions::new().connect(self.settings.text("path"));
            assert!(refused.is_err(), "nobody is left to listen");
        }
        drop(self.listener);
        assert!(!std::path::Path::new(self.settings.text("path")).exists(), "the socket file stays behind");
        say(format_args!("report {}", self.report));
    }

    fn start_victim(&self, role: &str, doing: Doing, seed: u64) -> Child {
        let mut command = Command::new(self.settings.text("victim"));
        command.arg(role).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.arg(format!("doing={}", doing as u32)).arg(format!("seed={seed}"));
        command.arg(format!("listen={}", self.listener.is_none())).arg("capacity=16384");
        command.args(["path", "log"].map(|key| format!("{key}={}", self.settings.text(key))));
        command.spawn().expect("a victim")
    }

    fn connection(&mut self) -> Option<Connection> {
        let patience = Duration::from_millis(500);
        match &mut self.listener {
            Some(listener) => listener.accept_timeout(patience).ok(),
            None => {
                let options = ConnectOptions::new().wait_for_listener(true).timeout(patience);
                options.connect(self.settings.text("path")).ok()
            }
        }
    }

    /// The victim's death is known now.
    fn known(&mut self, killer: &Killer) {
        let took = killer.since_death();
        assert!(took < HANGS, "it took {took:?} to know of the death");
        let times = if self.doing == Doing::Nothing { &mut self.report.blocked } else { &mut self.report.busy };
        times.push(took.as_micros() as u64);
    }
}

/// A thread that kills the victim at a given moment and remembers it.
pub(super) struct Killer {
    victim: Child,
    thread: Option<std::thread::JoinHandle<()>>,
    death: std::sync::Arc<std::sync::OnceLock<Instant>>,
}

impl Killer {
    pub(super) fn new(victim: Child) -> Self {
        Self { victim, thread: None, death: std::sync::Arc::default() }
    }

    pub(super) fn kill_after(&mut self, pause: Duration) {
        let (process, death) = (self.victim.id() as libc::pid_t, self.death.clone());
        self.thread = Some(std::thread::spawn(move || {
            std::thread::sleep(pause);
            let _ = death.set(Instant::now());
            // SAFETY: integers only; the victim is not reaped before this thread has ended.
            unsafe { libc::kill(process, libc::SIGKILL) };
        }));
    }

    pub(super) fn since_death(&self) -> Duration {
        self.death.get().expect("it was alive until then").elapsed()
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it cannot fail");
        }
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

/// Receives from senders that are killed: exactly what was committed arrives, then the news.
pub(super) fn survive_sender(settings: &Settings) {
    Survivor::new(settings).run("kill-sender", |survivor, mut connection, killer, stream| {
        let (mut number, way) = (0, survivor.random.below(3));
        let check = |number: u64, found: &[u8]| stream.check(number, found).unwrap_or_else(|wrong| panic!("{wrong}"));
        let end = loop {
            let found = match way {
                0 => connection.recv().map(|message| {
                    check(number, &message.to_vec());
                    1
                }),
                1 => connection.recv_batch(16).and_then(|batch| {
                    let mut next = number;
                    batch.for_each(|message| {
                        check(next, &message.to_vec());
                        next += 1;
                    })
                }),
                _ => connection.try_recv().map(|message| {
                    message.map_or(0, |message| {
                        check(number, &message.to_vec());
                        1
                    })
                }),
            };
            match found {
                Ok(count) => number += count,
                Err(error) => break error,
            }
        };
        assert!(matches!(end, RecvError::Disconnected { received, .. } if received == number), "after {number}: {end}");
        survivor.known(killer);
        assert!(matches!(connection.recv().map(drop), Err(RecvError::Disconnected { .. })), "gone is gone");
        let (least, most) = survivor.log.bounds();
        assert!((least..=most).contains(&number), "{number} arrived, {least} to {most} were sent");
    });
}

/// Sends to receivers that are killed: what they did not consume can be taken back, whole and in order.
pub(super) fn survive_receiver(settings: &Settings) {
    Survivor::new(settings).run("kill-receiver", |survivor, mut connection, killer, stream| {
        let (mut number, mut message, way) = (0, Vec::new(), survivor.random.below(3));
        let end = loop {
            stream.write(number, &mut message);
            let sent = match way {
                0 => connection.send(&message).map(|()| 1),
                1 => connection.reserve(message.len()).map(|mut reservation| {
                    reservation.write_at(0, &message);
                    reservation.commit();
                    1
                }),
                _ => match connection.try_send(&message) {
                    Err(SendError::WouldBlock { .. }) => Ok(0),
                    other => other.map(|()| 1),
                },
            };
            match sent {
                Ok(count) => number += count,
                Err(error) => break error,
            }
        };
        let SendError::Disconnected { undelivered } = end else { panic!("after {number}: {end}") };
        survivor.known(killer);
        assert!(matches!(connection.send(&message), Err(SendError::Disconnected { .. })), "gone is gone");
        let left = connection.undelivered().expect("the victim was honest");
        assert_eq!(left.len() as u64, undelivered);
        assert_eq!(connection.sender().sent(), number);
        let first = number - undelivered;
        let (least, most) = survivor.log.bounds();
        assert!((least..=most).contains(&first), "{first} were consumed, the log says {least} to {most}");
        for (at, message) in left.iter().enumerate() {
            stream.check(first + at as u64, message).unwrap_or_else(|wrong| panic!("taken back: {wrong}"));
        }
    });
}
