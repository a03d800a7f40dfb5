//! Connections in a tokio runtime: the same ones, with calls that let other tasks run while they wait.
//!
//! Promise: a call that is cancelled has done all of its work or none; a task that waits uses no processor time and is
//! woken by the peer's doorbell, or at once by its end; one that always finds something to do still lets others run.
//! Refusal: no thread is started, no descriptor duplicated and no byte copied more than without a runtime.
//!
//! Available with the feature `tokio`. The types here wrap those of the same name in the crate's root and are made from
//! them (`from_sync`, `TryFrom`) and turned back into them (`into_sync`, `From`); the peer does not notice.
//! Both ends choose by themselves.
//!
//! ```no_run
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let mut listener = ipc_core::tokio::Listener::bind("sensors")?;
//! loop {
//!     let mut client = listener.accept().await?;
//!     tokio::spawn(async move {
//!         while let Ok(message) = client.recv().await {
//!             println!("{:?}", message.to_vec());
//!         }
//!     });
//! }
//! # }
//! ```
//!
//! # Waiting
//!
//! A task that finds nothing looks again for at most about a microsecond, then arms the doorbell and sleeps in the reactor. It does
//! not poll for longer, whatever the [`WaitStrategy`](crate::WaitStrategy) says: that time belongs to other tasks.
//! The thread is not blocked, so a runtime of one thread serves many connections.
//!
//! # Large messages
//!
//! A message is received when it is complete, and a message beside the ring is copied on the thread of the task that sends it, which
//! keeps the thread for about as long as copying takes anywhere. Messages are not handed over through a window, as blocking calls
//! do with very large ones: both sides would have to wait for each other half-way, and a future that is dropped there could not
//! keep what it promises.
//!
//! # Other tasks
//!
//! Calls that find something at once take part in tokio's cooperative scheduling: sixteen messages or batches
//! cost a task one of its 128 units, and when they are used up the call lets other tasks run. `try_` calls never do.
//!
//! # Forked children
//!
//! As without a runtime: calls return `Forked`. A runtime does not survive a fork, so a child polls no future that would have to wait.

mod connect;
mod connection;
mod listener;
mod reactor;
mod receiver;
mod sender;

pub use connect::{connect, connect_with};
pub use connection::Connection;
pub use listener::Listener;
pub use reactor::RegisterError;
pub use receiver::Receiver;
pub use sender::Sender;
