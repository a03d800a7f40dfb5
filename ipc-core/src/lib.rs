//! Messages between processes of one machine.
//!
//! Two processes meet at a Unix socket and share one sealed piece of memory with a ring for each direction. A small message
//! is copied into the ring and read there in place; a long one lies in a block of shared memory beside it, or in a sealed
//! file. While both sides are busy, no system call is made; a side that finds nothing to do polls for a short time and then
//! sleeps.
//!
//! Promise: what was committed is received once, whole and in order, also if the sender is killed; a peer that breaks
//! the protocol ends its own connection and nothing else. Refusal: one producer and one consumer a direction, one
//! machine, and nothing that outlives both processes.
//!
//! # Connections
//!
//! One process listens under a name, which stands for a socket in a directory of this user's own:
//!
//! ```no_run
//! # #[cfg(feature = "std")]
//! # fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let mut server = ipc_core::Listener::bind("sensors")?.accept()?;
//! loop {
//!     let message = server.recv()?; // polls briefly, then sleeps
//!     println!("{:?}", message.to_vec()); // a copy; dropping `message` gives its space back
//! }
//! # }
//! # #[cfg(feature = "std")]
//! # serve().unwrap();
//! ```
//!
//! Another one connects:
//!
//! ```no_run
//! # #[cfg(feature = "std")]
//! # fn talk() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = ipc_core::connect("sensors")?;
//! client.send(b"hello")?; // wakes the server only if it sleeps
//! # Ok(())
//! # }
//! # #[cfg(feature = "std")]
//! # talk().unwrap();
//! ```
//!
//! Both ends send and receive. They can be split, one half a thread, and messages can be written in place or in
//! batches. Here both ends live in one process:
//!
//! ```
//! # #[cfg(feature = "std")]
//! # fn both() -> Result<(), Box<dyn std::error::Error>> {
//! use ipc_core::{ConnectOptions, Listener, RecvError};
//!
//! let path = std::env::temp_dir().join(format!("ipc-example-{}.sock", std::process::id()));
//! let mut listener = Listener::bind(&path)?;
//! let connecting = std::thread::spawn(move || ConnectOptions::new().connect(path));
//! let mut server = listener.accept()?;
//! let (mut sender, receiver) = connecting.join().expect("no panic")?.split();
//!
//! let mut reading = sender.reserve(8)?; // space in the ring
//! reading.write_at(0, &20.5_f64.to_ne_bytes());
//! reading.commit(); // visible from here on
//!
//! let mut batch = sender.batch();
//! for reading in [21.0_f64, 21.5] {
//!     batch.push(&reading.to_ne_bytes())?;
//! }
//! batch.publish();
//! drop((sender, receiver));
//!
//! let mut readings = Vec::new();
//! let end = loop {
//!     match server.recv() {
//!         Ok(message) => {
//!             let mut bytes = [0; 8];
//!             message.copy_to(&mut bytes)?;
//!             readings.push(f64::from_ne_bytes(bytes));
//!         }
//!         Err(end) => break end,
//!     }
//! };
//! assert_eq!(readings, [20.5, 21.0, 21.5]);
//! assert!(matches!(end, RecvError::Disconnected { received: 3, closed: true }));
//! # Ok(())
//! # }
//! # #[cfg(feature = "std")]
//! # both().unwrap();
//! ```
//!
//! # Long messages, and what lies beside them
//!
//! A message of any length can be sent by copy. What is large and made by the program itself can be written where the receiver
//! will read it: a *loan* is memory that no peer can write, so it is a slice even if the peer is hostile. A receiver reads it in
//! place, copies it, or holds it while it receives others. Files go beside messages.
//!
//! ```
//! # #[cfg(feature = "std")]
//! # fn frames() -> Result<(), Box<dyn std::error::Error>> {
//! use ipc_core::{ConnectOptions, Credit, ListenOptions};
//! use std::os::fd::AsFd;
//!
//! let path = std::env::temp_dir().join(format!("ipc-frames-{}.sock", std::process::id()));
//! let mut credit = Credit::default();
//! credit.message = 64 << 20; // a peer that we do not trust sends 64 MiB at a time, not more
//! let mut listener = ListenOptions::new().credit(credit).bind(&path)?;
//! let connecting = std::thread::spawn(move || ConnectOptions::new().connect(path));
//! let mut server = listener.accept()?;
//! let mut client = connecting.join().expect("no panic")?;
//!
//! let mut frame = client.sender().loan(8 << 20)?; // 8 MiB, aligned to 128 bytes; its bytes are unspecified
//! frame.fill(7);
//! frame.send()?; // no copy
//! let frame = server.recv()?.hold(); // its block stays ours until `frame` is dropped, here or on another thread
//!
//! let log = std::fs::File::open("/proc/self/status")?;
//! client.sender().send_with_files(b"my status", &[log.as_fd()])?;
//! let mut message = server.recv()?;
//! let files = message.take_files();
//! assert_eq!((message.to_vec().as_slice(), files.len()), (&b"my status"[..], 1));
//!
//! let mut last = [0; 1];
//! frame.read_at((8 << 20) - 1, &mut last)?;
//! assert_eq!(last, [7]);
//! # Ok(())
//! # }
//! # #[cfg(feature = "std")]
//! # frames().unwrap();
//! ```
//!
//! A connection takes the cheapest way for each message, unless one is fixed:
//!
//! ```no_run
//! # #[cfg(feature = "std")]
//! # fn route() -> Result<(), Box<dyn std::error::Error>> {
//! use ipc_core::{ConnectOptions, Mode, router::Override};
//!
//! let mut isolated = ConnectOptions::new().mode(Mode::Kernel).connect("sensors")?; // shares no memory
//! isolated.send(b"hello")?;
//!
//! let mut client = ipc_core::connect("sensors")?;
//! println!("{}", client.sender().router()); // "inline up to 5000 B, then arena up to ..."
//! client.sender().set_route(Override::Threshold(1000))?; // in the ring up to 1000 bytes, in the arena above
//! # Ok(())
//! # }
//! # #[cfg(feature = "std")]
//! # route().unwrap();
//! ```
//!
//! # What to use
//!
//! | to | use |
//! |---|---|
//! | choose capacities, limits, who may connect, how to wait | `ListenOptions`, `ConnectOptions` |
//! | send | `Sender::send`, `send_vectored`, `batch`; forms that try, or have a deadline |
//! | write in place | `Sender::reserve` in the ring, `loan` and `loan_value` for any length |
//! | write in place while others are sent | `Loan::detach`, `Sender::send_loan` |
//! | receive | `Receiver::recv`, `recv_into`, `recv_batch`; `try_recv` and `recv_timeout` |
//! | copy long messages out while they are copied in | `Receiver::recv_into` |
//! | keep a message while others are received | `Message::hold` |
//! | pass files, sockets, buffers on | `Sender::send_with_files`, `Message::take_files` |
//! | share less memory, or none | `Mode`, in the options of either side |
//! | limit what the peer has on the way or makes us hold | `Credit`, in the options |
//! | be sure that both sides mean the same type | `payload` of the options, `loan_value`, `Message::value` |
//! | wake a sleeping receiver once for several messages | `coalesce` of the options, `Sender::flush` |
//! | give memory of an arena back | `Sender::trim`; `Sender::arena` and `Receiver::mapped` say how much there is |
//! | wait in an event loop | `arm` and the descriptor (`AsFd`) of a half or of the `Listener` |
//! | wait in a tokio runtime | the feature `tokio` and its module of the same name |
//! | know what a dead peer did not get | `Sender::undelivered`, `take_undelivered` |
//! | choose how lanes are chosen | `Sender::set_route`, [`router`], `calibration` |
//! | have messages deref to `[u8]` | `Message::as_sealed` for those that nobody can change; else the unsafe `Connection::trust_peer` |
//!
//! # Without an operating system
//!
//! With `default-features = false` the crate is `no_std` and does not allocate. What is left works on memory that the
//! caller hands in: [`ring`] (also as a `static`), [`cell`], [`offset`], [`doorbell`], [`layout`] and [`version`]; [`router`]
//! needs no memory.
//!
//! ```
//! use ipc_core::ring::StaticRing;
//!
//! static RING: StaticRing<4096> = StaticRing::new();
//! let (mut producer, mut consumer) = RING.split().expect("the first to ask");
//! producer.try_push(b"hello").expect("room");
//! let record = consumer.try_read().expect("an honest producer").expect("a record");
//! assert_eq!(record.len(), 5);
//! ```
#![cfg_attr(not(any(test, feature = "std")), no_std)]

#[cfg(feature = "std")]
mod arena;
pub mod cell;
pub mod doorbell;
pub mod layout;
pub mod offset;
pub mod ring;
pub mod router;
mod sync;
pub mod version;

#[cfg(feature = "std")]
pub mod calibration;
#[cfg(feature = "std")]
mod connect;
#[cfg(feature = "std")]
mod connection;
#[cfg(feature = "std")]
mod error;
#[cfg(all(fuzzing, feature = "std"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "std")]
mod handshake;
#[cfg(feature = "std")]
mod link;
#[cfg(feature = "std")]
mod listener;
#[cfg(feature = "std")]
mod message;
#[cfg(feature = "std")]
mod options;
#[cfg(feature = "std")]
mod os;
#[cfg(feature = "std")]
mod receiver;
#[cfg(feature = "std")]
mod sender;
#[cfg(feature = "std")]
mod terms;
#[cfg(feature = "tokio")]
pub mod tokio;
#[cfg(feature = "std")]
mod wait;

#[cfg(feature = "std")]
pub use {
    arena::lender::ArenaStatus,
    connect::{ConnectError, ConnectOptions, connect},
    connection::Connection,
    error::{RecvError, Resource, SendError, TooShort},
    handshake::{Malformed, Refusal},
    listener::{AcceptError, ListenError, ListenOptions, Listener},
    message::{Held, Message, RecvBatch, Trust, Trusted, Untrusted, View},
    os::address::AddressError,
    os::admission::{Peer, PeerPolicy},
    os::peer::PeerCredentials,
    os::rendezvous::{BindError, DialError},
    os::segment::{SegmentError, SegmentOptions},
    receiver::Receiver,
    router::Lane,
    sender::{Batch, DetachedLoan, Loan, Reservation, Sender, Unsent, ValueLoan},
    terms::{Credit, Mode, PayloadType},
    wait::WaitStrategy,
};
