//! Messages in pieces, where no other lane takes them whole; both ends in one process.

use ipc_core::{ConnectOptions, Connection, Listener, Mode};

/// Both ends of a connection without shared memory over queues of 4 KiB.
fn pair(name: &str) -> (Connection, Connection) {
    let path = std::env::temp_dir().join(format!("ipc-pieces-{}-{name}", std::process::id()));
    let mut listener = Listener::bind(&path).unwrap();
    let connect = ConnectOptions::new().mode(Mode::Kernel).capacities(4096, 4096);
    let client = std::thread::spawn(move || connect.connect(path).unwrap());
    (listener.accept().unwrap(), client.join().unwrap())
}

fn content(len: usize, seed: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ seed as u8).collect()
}

/// The last piece carries a descriptor: lengths around those for which that takes a record more.
#[test]
fn messages_in_pieces_end_where_they_end() {
    let (mut server, mut client) = pair("ends");
    let longest = client.sender().max_reservation() as usize;
    let receiving = std::thread::spawn(move || {
        for pieces in 1..4 {
            for less in 0..40 {
                let len = pieces * longest + 8 - less;
                assert!(server.recv().unwrap().to_vec() == content(len, less), "{len} bytes");
            }
        }
    });
    for pieces in 1..4 {
        for less in 0..40 {
            client.send(&content(pieces * longest + 8 - less, less)).unwrap();
        }
    }
    receiving.join().unwrap();
}

#[test]
fn a_batch_before_a_message_in_pieces_leaves_all_of_them() {
    let (mut server, mut client) = pair("batch");
    let long = content(2500, 1);
    for _ in 0..2 {
        client.send(b"short").unwrap();
        let long = long.clone();
        std::thread::scope(|scope| {
            scope.spawn(|| client.send(&long).unwrap());
            let mut received = Vec::new();
            while received.len() < 2 {
                server.recv_batch(10).unwrap().for_each(|message| received.push(message.to_vec())).unwrap();
            }
            assert!(received == [b"short".to_vec(), long.clone()]);
        });
    }
}
