//! Messages between two processes: every byte of every message, in order, whatever the capacity, the way of waiting, the
//! kind of barrier and the calls that were used.

use ipc_core::doorbell::Barrier;
use ipc_core::ring::RingMemory;
use ipc_core::{ListenOptions, Listener, Mode};
use ipc_tests::roles::{StrategyName, both_ways};
use ipc_tests::{HangGuard, Language, Pair, Peer, Scratch, in_each_pair, peer, small_pair, system};
use std::time::Duration;

/// How one run is set up.
struct Run {
    capacity: u64,
    server: StrategyName,
    client: StrategyName,
    /// Whether each side wants `membarrier(2)`: server, client.
    membarrier: (bool, bool),
    count: u64,
}

impl Run {
    fn go(self, pair: Pair) {
        let _guard = HangGuard::new(110);
        let scratch = Scratch::new();
        let Self { capacity, membarrier, .. } = self;
        let count = pair.share(self.count, 4);
        let server = Server::new(pair, |language| match language {
            Language::Rust => {
                let options = ListenOptions::new().capacity(capacity).wait_strategy(self.server.strategy());
                Server::Here(Box::new(options.membarrier(membarrier.0).bind(scratch.socket()).unwrap()))
            }
            Language::C => Server::There(peer!(
                in language,
                "stress",
                path = scratch.socket(),
                listen = true,
                capacity = capacity,
                strategy = self.server,
                membarrier = membarrier.0,
                seed = 22,
                incoming = 11,
                count = count,
            )),
        });
        let peer = peer!(
            in pair.1,
            "stress",
            path = scratch.socket(),
            strategy = self.client,
            membarrier = membarrier.1,
            seed = 11,
            incoming = 22,
            count = count,
        );
        server.serve(peer, count, 0);
    }
}

/// The side that listens: this process, or one of its own.
enum Server {
    Here(Box<Listener>),
    There(Peer),
}

impl Server {
    fn new(pair: Pair, start: impl FnOnce(Language) -> Self) -> Self {
        let mut server = start(pair.0);
        if let Self::There(peer) = &mut server {
            peer.expect("listening");
        }
        server
    }

    /// Sends stream 22 to `client`, and receives stream 11 from it.
    fn serve(self, mut client: Peer, count: u64, longest: u64) {
        match self {
            Self::Here(mut listener) => {
                let connection = listener.accept_timeout(Duration::from_secs(20)).unwrap();
                client.expect("mapped");
                both_ways(connection, 22, 11, count, longest);
            }
            Self::There(mut server) => {
                server.expect("done");
                server.finish();
            }
        }
        client.expect("done");
        client.finish();
    }
}

use StrategyName::{Adaptive, Busy, Sleep};

fn a_small_ring_carries_all_with_membarrier(pair: Pair) {
    Run { capacity: 4 << 10, server: Adaptive, client: Adaptive, membarrier: (true, true), count: 40_000 }.go(pair);
}

fn a_small_ring_carries_all_with_fences_on_the_servers_wish(pair: Pair) {
    Run { capacity: 4 << 10, server: Adaptive, client: Sleep, membarrier: (false, true), count: 20_000 }.go(pair);
}

fn a_small_ring_carries_all_with_fences_on_the_clients_wish(pair: Pair) {
    Run { capacity: 4 << 10, server: Sleep, client: Adaptive, membarrier: (true, false), count: 20_000 }.go(pair);
}

fn a_small_ring_carries_all_between_sleepers(pair: Pair) {
    Run { capacity: 4 << 10, server: Sleep, client: Sleep, membarrier: (true, true), count: 20_000 }.go(pair);
}

fn a_small_ring_carries_all_between_pollers(pair: Pair) {
    Run { capacity: 4 << 10, server: Busy, client: Busy, membarrier: (false, false), count: 1_000 }.go(pair);
}

fn a_large_ring_carries_all_with_membarrier(pair: Pair) {
    Run { capacity: 256 << 10, server: Adaptive, client: Adaptive, membarrier: (true, true), count: 20_000 }.go(pair);
}

fn a_large_ring_carries_all_with_fences(pair: Pair) {
    Run { capacity: 256 << 10, server: Sleep, client: Adaptive, membarrier: (false, false), count: 10_000 }.go(pair);
}

fn a_poller_and_a_sleeper_understand_each_other(pair: Pair) {
    Run { capacity: 256 << 10, server: Busy, client: Sleep, membarrier: (true, true), count: 2_000 }.go(pair);
}

/// Messages of up to `longest` bytes on all lanes of a mode.
fn on_all_lanes(pair: Pair, mode: Mode, capacity: u64, longest: u64, count: u64) {
    let _guard = HangGuard::new(110);
    let scratch = Scratch::new();
    let count = pair.share(count, 4);
    let server = Server::new(pair, |language| match language {
        Language::Rust => {
            Server::Here(Box::new(ListenOptions::new().capacity(capacity).bind(scratch.socket()).unwrap()))
        }
        Language::C => Server::There(peer!(
            in language,
            "stress",
            path = scratch.socket(),
            listen = true,
            capacity = capacity,
            longest = longest,
            seed = 22,
            incoming = 11,
            count = count,
        )),
    });
    let peer = peer!(
        in pair.1,
        "stress",
        path = scratch.socket(),
        mode = mode,
        longest = longest,
        seed = 11,
        incoming = 22,
        count = count,
    );
    server.serve(peer, count, longest);
}

fn all_lanes_carry_all(pair: Pair) {
    on_all_lanes(pair, Mode::Auto, 256 << 10, 300_000, 4_000);
    on_all_lanes(pair, Mode::Auto, 4 << 10, 100_000, 4_000);
}

fn shared_memory_alone_carries_all(pair: Pair) {
    on_all_lanes(pair, Mode::Shared, 64 << 10, 300_000, 4_000);
}

fn sockets_and_blocks_carry_all(pair: Pair) {
    on_all_lanes(pair, Mode::Hybrid, 64 << 10, 300_000, 3_000);
    on_all_lanes(pair, Mode::Hybrid, 4 << 10, 20_000, 3_000);
}

fn sockets_alone_carry_all(pair: Pair) {
    on_all_lanes(pair, Mode::Kernel, 64 << 10, 300_000, 2_000);
    on_all_lanes(pair, Mode::Kernel, 4 << 10, 20_000, 2_000);
}

in_each_pair!(
    a_small_ring_carries_all_with_membarrier,
    a_small_ring_carries_all_with_fences_on_the_servers_wish,
    a_small_ring_carries_all_with_fences_on_the_clients_wish,
    a_small_ring_carries_all_between_sleepers,
    a_small_ring_carries_all_between_pollers,
    a_large_ring_carries_all_with_membarrier,
    a_large_ring_carries_all_with_fences,
    a_poller_and_a_sleeper_understand_each_other,
    all_lanes_carry_all,
    shared_memory_alone_carries_all,
    sockets_and_blocks_carry_all,
    sockets_alone_carry_all,
);

/// The address of the library's mapping in lines of `/proc/PID/maps`.
fn address(maps: &str) -> &str {
    let line = maps.split(';').next().expect("one line at least");
    line.split_once('-').expect("an address range").0
}

#[test]
fn a_segment_works_at_a_different_address_in_each_process() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let mut listener = ListenOptions::new().capacity(4 << 10).bind(scratch.socket()).unwrap();
    let mut peer = peer!("stress", path = scratch.socket(), seed = 1, incoming = 2, count = 5_000);
    let connection = listener.accept_timeout(Duration::from_secs(20)).unwrap();
    let theirs = peer.expect("mapped");
    assert!(theirs.contains("memfd:ipc:s ("), "{theirs}");
    // Other tests of this program have mappings too: none may lie where the peer's lies.
    let ours = system::segments();
    assert!(ours.iter().all(|line| address(line) != address(&theirs)), "{ours:?} and {theirs}");
    both_ways(connection, 2, 1, 5_000, 0);
    peer.finish();
}

#[test]
fn a_ring_that_has_seen_four_thousand_million_laps_shows_nothing_that_was_not_sent() {
    // The stamp in a header has 32 bits; these are the laps around its end.
    for lap in [(1 << 32) - 2, (1 << 32) - 1, 1 << 32_u64] {
        let mut memory = vec![0_u128; 8192 / 16];
        let base = memory.as_mut_ptr().cast::<u8>();
        // SAFETY: stays inside the vector, which is large enough for the ring behind the gap.
        let base = std::ptr::NonNull::new(unsafe { base.add(base.align_offset(128)) }).unwrap();
        // SAFETY: the vector outlives the ring and is touched by nothing else.
        let ring = unsafe { RingMemory::from_raw(base, 4096) }.unwrap();
        // SAFETY: there is no half yet, and one of each kind is made.
        let (mut producer, mut consumer) = unsafe {
            ring.reset(lap << 12);
            (ring.producer(Barrier::Fence), ring.consumer(Barrier::Fence))
        };
        for number in 0..200_u64 {
            assert!(consumer.try_read().unwrap().is_none(), "lap {lap}: something came before message {number}");
            let message = [0; 100];
            producer.try_push(&message[..(number % 100) as usize]).unwrap();
            let len = consumer.try_read().unwrap().map(|record| record.len() as u64);
            assert_eq!(len, Some(number % 100), "lap {lap}, message {number}");
        }
    }
}

#[test]
fn a_batch_that_waited_over_the_end_of_a_lap_is_received_whole() {
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let (mut server, mut client) = small_pair(&scratch);
    for _ in 0..4 {
        server.send(&[0; 900]).unwrap();
        drop(client.recv().unwrap());
    }
    // It does not fit in this lap, so the lap is padded; then it is given up.
    drop(server.reserve(900).unwrap());
    let receiving = std::thread::spawn(move || {
        // Goes over the padding, finds nothing, and gives the room back before it sleeps.
        let batch = client.recv_batch(10).unwrap();
        let mut lengths = Vec::new();
        batch.for_each(|message| lengths.push(message.len())).unwrap();
        lengths
    });
    while !server.sender().status().consumer_sleeps {
        std::thread::sleep(Duration::from_millis(1));
    }
    // As much as fits, so that the end of this lap is written over where the padding was.
    let mut batch = server.batch();
    for _ in 0..4 {
        batch.try_push(&[0; 1000]).unwrap();
    }
    batch.publish().expect("a usable connection");
    assert_eq!(receiving.join().unwrap(), [1000; 4]);
}
