//! Messages on every lane between two processes: each arrives once, whole, in order and with its own files, however it is sent and
//! received, and at the end the arena is empty.
//!
//! A failing case prints its seed; `IPC_LONG` runs longer ones.

use ipc_core::{Credit, ListenOptions, Listener};
use ipc_tests::roles::{StrategyName, mixed_both_ways};
use ipc_tests::{HangGuard, Language, Mix, Pair, Peer, Scratch, in_each_pair, peer, system};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

/// How one run is set up.
#[derive(Clone, Copy, Debug)]
struct Run {
    seed: u64,
    mode: &'static str,
    capacity: u64,
    /// What either side accepts.
    messages: u64,
    arena: u64,
    strategies: [StrategyName; 2],
    membarrier: bool,
}

impl Run {
    fn go(self, pair: Pair, count: u64) {
        println!("{count} messages, {pair:?}: {self:?}");
        let _guard = HangGuard::new(100);
        let scratch = Scratch::new();
        let server = self.server(pair.0, &scratch, count);
        let mut peer = peer!(
            in pair.1,
            "mix",
            path = scratch.socket(),
            mode = self.mode,
            messages = self.messages,
            arena = self.arena,
            strategy = self.strategies[1],
            seed = self.seed,
            incoming = !self.seed,
            count = count,
        );
        match server {
            Server::Here(mut listener) => {
                let connection = listener.accept_timeout(SOON).unwrap();
                mixed_both_ways(connection, !self.seed, self.seed, count);
            }
            Server::There(mut server) => {
                server.expect("done");
                server.finish();
            }
        }
        peer.expect("done");
        peer.finish();
    }

    fn server(self, language: Language, scratch: &Scratch, count: u64) -> Server {
        if language == Language::Rust {
            let mut credit = Credit::default();
            (credit.messages, credit.arena) = (self.messages, self.arena);
            let options = ListenOptions::new().capacity(self.capacity).credit(credit).membarrier(self.membarrier);
            let options = options.wait_strategy(self.strategies[0].strategy());
            return Server::Here(Box::new(options.bind(scratch.socket()).unwrap()));
        }
        let mut peer = peer!(
            in language,
            "mix",
            path = scratch.socket(),
            listen = true,
            capacity = self.capacity,
            messages = self.messages,
            arena = self.arena,
            strategy = self.strategies[0],
            membarrier = self.membarrier,
            seed = !self.seed,
            incoming = self.seed,
            count = count,
        );
        peer.expect("listening");
        Server::There(peer)
    }
}

/// The side that listens: this process, or one of its own.
enum Server {
    Here(Box<Listener>),
    There(Peer),
}

fn any_run(mode: &'static str) -> impl Strategy<Value = Run> {
    let strategy = || prop::sample::select(vec![StrategyName::Adaptive, StrategyName::Sleep]);
    let capacity = prop::sample::select(vec![4096_u64, 16 << 10, 256 << 10]);
    let messages = prop::sample::select(vec![u64::MAX, 3, 40]);
    // A small arena is full now and then; the large one has several regions, of both kinds.
    let arena = prop::sample::select(vec![24_u64 << 20, 100 << 20]);
    (any::<u64>(), capacity, messages, arena, [strategy(), strategy()], any::<bool>()).prop_map(
        move |(seed, capacity, messages, arena, strategies, membarrier)| Run {
            seed,
            mode,
            capacity,
            messages,
            arena,
            strategies,
            membarrier,
        },
    )
}

fn arrives(pair: Pair, mode: &'static str) {
    let (cases, count) = if std::env::var_os("IPC_LONG").is_some() { (40, 20_000) } else { (4, 1_500) };
    let cases = pair.share(cases, 4) as u32;
    let config = ProptestConfig { cases, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() };
    let ran = TestRunner::new(config).run(&any_run(mode), |run| {
        run.go(pair, count);
        Ok(())
    });
    ran.unwrap_or_else(|failed| panic!("{failed}"));
}

fn every_message_arrives_once_whole_and_in_order_with_all_lanes(pair: Pair) {
    arrives(pair, "auto");
}

fn every_message_arrives_once_whole_and_in_order_without_the_kernels_lane(pair: Pair) {
    arrives(pair, "shared");
}

fn every_message_arrives_once_whole_and_in_order_with_the_queue_in_the_socket(pair: Pair) {
    arrives(pair, "hybrid");
}

fn every_message_arrives_once_whole_and_in_order_without_shared_memory(pair: Pair) {
    arrives(pair, "kernel");
}

in_each_pair!(
    every_message_arrives_once_whole_and_in_order_with_all_lanes,
    every_message_arrives_once_whole_and_in_order_without_the_kernels_lane,
    every_message_arrives_once_whole_and_in_order_with_the_queue_in_the_socket,
    every_message_arrives_once_whole_and_in_order_without_shared_memory,
);

/// A sender that waited for the next word about its offer took the word that it waits to see change from a second look, after the one
/// that it had judged. If the receiver spoke in between, both slept for ever.
#[test]
fn very_large_messages_go_to_and_fro_between_sides_that_sleep() {
    const SIZE: usize = 3 << 20;
    let count = if std::env::var_os("IPC_LONG").is_some() { 20_000 } else { 1_000 };
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let sleep = StrategyName::Sleep;
    let mut listener = ListenOptions::new().wait_strategy(sleep.strategy()).bind(scratch.socket()).unwrap();
    let mut peer = peer!("echo-into", path = scratch.socket(), strategy = sleep, size = SIZE);
    let mut connection = listener.accept_timeout(SOON).unwrap();
    // A wake-up would rather bring both to one processor, where they never run at once.
    let processors = system::processors();
    system::pin(Some(peer.id()), 0, &processors);
    system::pin(None, 1, &processors);
    let (mut message, mut answer) = (vec![0; SIZE], vec![0; SIZE]);
    Mix::new(5, 0, 0).fill(0, &mut message);
    for number in 0..count {
        message[number % SIZE] ^= 1;
        connection.send(&message).unwrap();
        assert_eq!(connection.receiver().recv_into_timeout(&mut answer, SOON).unwrap(), SIZE);
        assert!(answer == message, "message {number}");
    }
    drop(connection);
    assert_eq!(peer.expect("gone"), count.to_string());
    peer.finish();
}
