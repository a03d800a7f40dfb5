//! The two sides of the crate in two threads of a process that does have the standard library.

use ipc_no_std_proof::{consume, halves, produce};

const COUNT: u64 = 5_000;

#[test]
fn what_one_side_sends_over_a_static_ring_the_other_receives() {
    let (mut producer, mut consumer) = halves().expect("the first to ask");
    assert!(halves().is_none(), "the halves exist once");
    let sending = std::thread::spawn(move || produce(&mut producer, COUNT));
    let received = consume(&mut consumer, COUNT);
    let sent = sending.join().expect("the sender ends").expect("an honest consumer");
    assert_eq!(received, Ok(sent));
    assert_eq!(consumer.messages(), COUNT);
}
