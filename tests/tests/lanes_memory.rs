//! Memory of the arena: what is lent, detached, held, dropped and leaked is accounted for, what is not needed goes back to the system,
//! and a steady exchange takes nothing from it. And senders that are stopped in the middle of a copy.

use ipc_core::router::Override;
use ipc_core::{Connection, DetachedLoan, Lane, ListenOptions, SendError, Sender};
use ipc_tests::roles::{RESULTS, STOP, TURNS};
use ipc_tests::shared::Counters;
use ipc_tests::{HangGuard, Language, Peer, Scratch, in_each_language, peer, small_pair, system};
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// What counts processor time and page faults waits until it is alone.
static ALONE: RwLock<()> = RwLock::new(());

fn among_others() -> RwLockReadGuard<'static, ()> {
    ALONE.read().unwrap_or_else(PoisonError::into_inner)
}

/// A server here, and a client in another process that receives what it is told to.
fn with_keeper(language: Language) -> (Scratch, Peer, Connection) {
    let scratch = Scratch::new();
    let mut listener = ListenOptions::new().bind(scratch.socket()).unwrap();
    let mut peer = peer!(in language, "keep", path = scratch.socket());
    let mut server = listener.accept_timeout(SOON).unwrap();
    peer.expect("connected");
    server.sender().set_route(Override::Lane(Lane::Arena)).unwrap();
    (scratch, peer, server)
}

/// Blocks and bytes in use, after a look at what has come back.
fn in_use(sender: &mut Sender) -> (u64, u64) {
    sender.trim(SOON).unwrap();
    (sender.arena().blocks, sender.arena().used)
}

fn detach(sender: &mut Sender, len: usize, fill: u8) -> DetachedLoan {
    let mut loan = sender.loan(len).unwrap();
    loan.fill(fill);
    loan.detach().unwrap_or_else(|_| panic!("it is in the arena"))
}

fn loans_are_given_back_however_they_end(language: Language) {
    let _others = among_others();
    let _guard = HangGuard::new(60);
    let (_scratch, mut peer, mut server) = with_keeper(language);
    let sender = server.sender();
    assert_eq!(in_use(sender), (0, 0));
    let lent = sender.loan(1000).unwrap();
    drop(lent);
    assert_eq!(in_use(sender), (0, 0), "a loan that is dropped");
    let mut loans: Vec<_> = (0..5).map(|fill| detach(sender, 1000, fill)).collect();
    assert_eq!(in_use(sender), (5, 5 * 1024));
    // The order in which they are sent is the one that counts.
    for at in [4, 1] {
        sender.send_loan(loans.remove(at)).unwrap();
    }
    drop(loans.remove(0));
    assert_eq!(in_use(sender), (4, 4 * 1024), "a detached loan that is dropped");
    std::thread::spawn(move || drop(loans)).join().unwrap();
    assert_eq!(in_use(sender), (2, 2 * 1024), "loans that another thread drops, the last one of all too");
    let mut shortened = detach(sender, 5000, 7);
    shortened.set_len(50);
    sender.send_loan(shortened).unwrap();
    peer.say("take 3");
    assert_eq!(peer.expect("took"), "1000 1000 50");
    assert_eq!(in_use(sender), (0, 0), "what was read");
    // A loan that its sender leaks keeps its block, and nothing else.
    std::mem::forget(detach(sender, 1000, 0));
    assert_eq!(in_use(sender), (1, 1024));
    sender.send(&[1; 1000]).unwrap();
    peer.say("take 1");
    peer.expect("took 1000");
    assert_eq!(in_use(sender), (1, 1024));
}

#[test]
fn a_loan_arrives_as_it_was_written_in_the_order_of_sending() {
    let _others = among_others();
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let (mut server, mut client) = small_pair(&scratch);
    let mut loans: Vec<_> = (0..6).map(|fill| detach(server.sender(), 3000, fill)).collect();
    loans.reverse();
    std::thread::scope(|scope| {
        for loan in &mut loans {
            scope.spawn(|| {
                let fill = loan[0] + 10;
                loan.fill(fill);
            });
        }
    });
    for loan in loans {
        server.sender().send_loan(loan).unwrap();
    }
    for fill in (0..6_u8).rev() {
        assert_eq!(client.recv().unwrap().to_vec(), vec![fill + 10; 3000]);
    }
    // Of another sender, or for one that is gone: the loan comes back, and its block with it.
    let foreign = detach(client.sender(), 100, 1);
    let unsent = server.sender().send_loan(foreign).unwrap_err();
    assert!(matches!(unsent.error, SendError::Lane { lane: Lane::Arena, .. }), "{}", unsent.error);
    client.sender().send_loan(unsent.loan).unwrap();
    assert_eq!(server.recv().unwrap().to_vec(), [1; 100]);
    let late = detach(server.sender(), 100, 2);
    drop(client);
    assert!(server.sender().is_peer_gone());
    let unsent = server.sender().send_loan(late).unwrap_err();
    assert!(matches!(unsent.error, SendError::Disconnected { undelivered: 0 }), "{}", unsent.error);
    assert_eq!(unsent.loan[..], [2; 100]);
    assert!(server.sender().take_undelivered().unwrap().is_empty());
    assert_eq!(server.sender().arena().blocks, 1, "the loan is still there");
    drop(unsent);
    assert!(server.sender().take_undelivered().unwrap().is_empty());
    assert_eq!((server.sender().arena().blocks, server.sender().arena().used), (0, 0));
}

fn blocks_come_back_in_any_order(language: Language) {
    let _others = among_others();
    let _guard = HangGuard::new(60);
    let (_scratch, mut peer, mut server) = with_keeper(language);
    let sender = server.sender();
    for size in 1..=6 {
        sender.send(&vec![0; size * 10_240]).unwrap();
    }
    let mut sizes: Vec<_> = (1..=6).collect();
    peer.say("hold 6");
    peer.expect("held 6");
    for at in [3, 0, 3, 1, 0, 0] {
        sizes.remove(at);
        peer.say(&format!("drop {at}"));
        peer.expect("dropped");
        let bytes: u64 = sizes.iter().map(|size| size * 10_240).sum();
        assert_eq!(in_use(sender), (sizes.len() as u64, bytes));
    }
    assert!(sizes.is_empty());
}

fn what_a_killed_receiver_held_comes_back(language: Language) {
    let _others = among_others();
    let _guard = HangGuard::new(60);
    let (_scratch, mut peer, mut server) = with_keeper(language);
    let sender = server.sender();
    for fill in 0..9 {
        sender.send(&[fill; 10_000]).unwrap();
    }
    peer.say("hold 5");
    peer.expect("held 5");
    peer.say("take 1");
    peer.expect("took");
    peer.kill();
    peer.wait();
    assert!(sender.is_peer_gone());
    let error = sender.send(&[0; 10_000]).unwrap_err();
    assert!(matches!(error, SendError::Disconnected { undelivered: 3 }), "{error}");
    assert_eq!(sender.arena().blocks, 3, "those that it did not consume stay until they are taken back");
    let due: Vec<_> = (6..9).map(|fill| vec![fill; 10_000]).collect();
    assert_eq!(sender.undelivered().unwrap(), due);
    assert_eq!(sender.take_undelivered().unwrap(), due);
    assert_eq!((sender.arena().blocks, sender.arena().used), (0, 0));
}

fn regions_that_are_not_needed_go_back_to_the_system_on_both_sides(language: Language) {
    let _others = among_others();
    let _guard = HangGuard::new(60);
    let (_scratch, mut peer, mut server) = with_keeper(language);
    let (fixed, message) = (system::mapped_by(peer.id()), vec![3; 40 << 20]);
    let sender = server.sender();
    // A region of 64 MiB has room for one of them, not for two; what copies have to themselves, for none. Without a deadline a window
    // would come first.
    for count in 1..=3 {
        peer.say("hold 1");
        sender.send_timeout(&message, SOON).unwrap();
        peer.expect(&format!("held {count}"));
        peer.say("mapped");
        assert_eq!(peer.expect("mapped"), (count * (64 << 20)).to_string());
        assert_eq!(system::mapped_by(peer.id()), fixed + count * (64 << 20));
        assert_eq!(sender.arena().size, count * (64 << 20));
    }
    assert_eq!(sender.trim(Duration::ZERO).unwrap(), 0, "all are in use");
    peer.say("drop 1");
    peer.expect("dropped 2");
    assert_eq!(sender.trim(SOON).unwrap(), 0, "it was used just now");
    assert_eq!(sender.trim(Duration::ZERO).unwrap(), 64 << 20);
    peer.say("drop-all");
    peer.expect("dropped 0");
    assert_eq!(sender.trim(Duration::ZERO).unwrap(), 128 << 20);
    assert_eq!((sender.arena().size, sender.arena().used), (0, 0));
    // The receiver is told with the next message at the latest.
    sender.set_route(Override::Lane(Lane::Inline)).unwrap();
    sender.send(b"x").unwrap();
    peer.say("take 1");
    peer.expect("took 1");
    peer.say("mapped");
    assert_eq!(peer.expect("mapped"), "0");
    assert_eq!(system::mapped_by(peer.id()), fixed);
    // And it begins anew.
    sender.set_route(Override::Lane(Lane::Arena)).unwrap();
    sender.send(&message).unwrap();
    peer.say("take 1");
    assert_eq!(peer.expect("took"), message.len().to_string());
}

#[test]
fn a_held_message_outlives_its_connection() {
    let _others = among_others();
    let _guard = HangGuard::new(60);
    let scratch = Scratch::new();
    let (mut server, mut client) = small_pair(&scratch);
    for lane in Lane::ALL {
        server.sender().set_route(Override::Lane(lane)).unwrap();
        server.send(&[lane as u8 + 1; 900]).unwrap();
    }
    let held: Vec<_> = Lane::ALL.into_iter().map(|lane| (lane, client.recv().unwrap().hold())).collect();
    drop((server, client));
    for (lane, held) in &held {
        assert_eq!((held.lane(), held.to_vec()), (*lane, vec![*lane as u8 + 1; 900]));
        assert_eq!(held.as_sealed().is_some(), *lane != Lane::Arena);
    }
}

#[test]
fn a_forked_child_that_drops_loans_and_held_messages_does_nothing_to_its_parents() {
    let _others = among_others();
    let _guard = HangGuard::new(60);
    for child in ["drops", "sends"] {
        let scratch = Scratch::new();
        let mut listener = ListenOptions::new().bind(scratch.socket()).unwrap();
        let mut peer = peer!("arena-fork", path = scratch.socket(), child = child);
        let mut server = listener.accept_timeout(SOON).unwrap();
        server.sender().set_route(Override::Lane(Lane::Arena)).unwrap();
        for fill in 0..3 {
            server.send(&[fill; 100_000]).unwrap();
        }
        for (fill, len) in [(9, 50_000), (0, 100_000), (1, 100_000)] {
            assert_eq!(server.recv().unwrap().to_vec(), vec![fill; len]);
        }
        peer.expect("forked");
        assert_eq!(in_use(server.sender()).0, 3, "the parent holds them still");
        peer.say("go");
        peer.expect("dropped");
        assert_eq!(in_use(server.sender()), (0, 0));
        drop(server);
        peer.finish();
    }
}

#[test]
fn a_steady_exchange_through_the_arena_faults_no_page_and_maps_nothing() {
    let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    let _guard = HangGuard::new(100);
    // A page of code that is needed for the first time late counts too: one clean run of three is a proof, for what takes memory for
    // messages does so in every run.
    assert!((0..3).any(|_| steady_exchange()), "page faults in each of three runs");
}

fn steady_exchange() -> bool {
    let scratch = Scratch::new();
    let (path, counters) = (scratch.socket(), Counters::new());
    let log = counters.path();
    let mut server = peer!("arena-steady", path = path, listen = true, log = log, begins = true);
    server.expect("listening");
    let mut client = peer!("arena-steady", path = path, log = log);
    let start = Instant::now();
    while counters.word(TURNS).load(Ordering::SeqCst) < 10_000 && start.elapsed() < SOON {
        assert!(server.ended().is_none() && client.ended().is_none());
        std::thread::sleep(Duration::from_millis(20));
    }
    counters.word(STOP).store(1, Ordering::SeqCst);
    for peer in [&mut server, &mut client] {
        peer.expect("done");
    }
    let results = RESULTS.map(|at| [0, 8, 16].map(|word| counters.word(at + word).load(Ordering::SeqCst)));
    println!("turns, page faults, changes of the address space: {results:?}");
    for peer in [&mut server, &mut client] {
        peer.say("go");
        peer.finish();
    }
    for [turns, page_faults, changed] in results {
        assert!(turns > 1000, "{turns} turns are no steady state");
        assert!(page_faults * 100 < turns, "{page_faults} page faults in {turns} turns");
        assert_eq!(changed, 0, "the address space changed");
    }
    results.iter().all(|[_, page_faults, _]| *page_faults == 0)
}

#[test]
fn a_sender_that_is_stopped_in_the_middle_of_a_copy_costs_nothing_and_loses_nothing() {
    let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    let _guard = HangGuard::new(100);
    let scratch = Scratch::new();
    let mut receiver = peer!("arrest", path = scratch.socket(), listen = true, seed = 8, rounds = 4);
    receiver.expect("listening");
    let mut sender = peer!("large", path = scratch.socket(), seed = 8);
    println!("stopped {}", receiver.expect("stopped"));
    receiver.finish();
    sender.finish();
}

#[test]
fn a_copy_that_is_followed_and_interrupted_anywhere_arrives_whole() {
    let _alone = ALONE.write().unwrap_or_else(PoisonError::into_inner);
    let _guard = HangGuard::new(100);
    let scratch = Scratch::new();
    let rounds = if std::env::var_os("IPC_LONG").is_some() { 500 } else { 25 };
    let mut receiver = peer!("interrupt", path = scratch.socket(), listen = true, seed = 9, rounds = rounds);
    receiver.expect("listening");
    let mut sender = peer!("large", path = scratch.socket(), seed = 9);
    let timeouts: u64 = receiver.expect("timeouts").parse().unwrap();
    assert!(timeouts > rounds, "{timeouts} timeouts put hardly anything to the test");
    receiver.finish();
    sender.finish();
}

in_each_language!(
    loans_are_given_back_however_they_end,
    blocks_come_back_in_any_order,
    what_a_killed_receiver_held_comes_back,
    regions_that_are_not_needed_go_back_to_the_system_on_both_sides,
);
