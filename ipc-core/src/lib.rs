//! Messages between processes of one machine.
#![cfg_attr(not(any(test, feature = "std")), no_std)]

pub mod cell;
pub mod doorbell;
pub mod layout;
pub mod offset;
pub mod ring;
mod sync;
pub mod version;

#[cfg(feature = "std")]
mod connect;
#[cfg(feature = "std")]
mod connection;
#[cfg(feature = "std")]
mod error;
#[cfg(feature = "std")]
mod handshake;
#[cfg(feature = "std")]
mod link;
#[cfg(feature = "std")]
mod listener;
#[cfg(feature = "std")]
mod message;
#[cfg(feature = "std")]
mod os;
#[cfg(feature = "std")]
mod receiver;
#[cfg(feature = "std")]
mod sender;
#[cfg(feature = "std")]
mod wait;

#[cfg(feature = "std")]
pub use {
    connect::{ConnectError, ConnectOptions, connect},
    connection::Connection,
    error::{RecvError, SendError, TooShort},
    handshake::{Malformed, Refusal},
    listener::{AcceptError, ListenError, ListenOptions, Listener},
    message::{Message, RecvBatch, Trust, Trusted, Untrusted, View},
    os::address::AddressError,
    os::admission::{Peer, PeerPolicy},
    os::peer::PeerCredentials,
    os::rendezvous::{BindError, DialError},
    os::segment::{SegmentError, SegmentOptions},
    receiver::Receiver,
    sender::{Batch, Reservation, Sender},
    wait::WaitStrategy,
};
