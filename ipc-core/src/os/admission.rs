//! Who may connect: the kernel says who the peer is, a policy says whether that will do.

use crate::os::peer::{PeerCredentials, peer_credentials, peer_pidfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::vec::Vec;

/// Which users' processes are admitted. Both sides have one: a server for its clients, a client for its server.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum PeerPolicy {
    /// Processes whose effective user id is ours. The default.
    #[default]
    SameUser,
    /// Processes with one of these effective user ids.
    Users(Vec<u32>),
    /// Anyone who can open the socket file.
    Anyone,
    /// Whoever the function admits.
    Custom(Arc<dyn Fn(&PeerCredentials) -> bool + Send + Sync>),
}

impl PeerPolicy {
    pub(crate) fn admits(&self, peer: &PeerCredentials) -> bool {
        match self {
            Self::SameUser => peer.uid == own_user(),
            Self::Users(users) => users.contains(&peer.uid),
            Self::Anyone => true,
            Self::Custom(admits) => admits(peer),
        }
    }
}

impl fmt::Debug for PeerPolicy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameUser => out.write_str("SameUser"),
            Self::Users(users) => out.debug_tuple("Users").field(users).finish(),
            Self::Anyone => out.write_str("Anyone"),
            Self::Custom(_) => out.write_str("Custom"),
        }
    }
}

/// The effective user id of this process.
pub(crate) fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Who the other side of a connection is, as the kernel says.
#[derive(Debug)]
pub struct Peer {
    credentials: PeerCredentials,
    pidfd: Option<OwnedFd>,
}

impl Peer {
    pub(crate) fn of(socket: impl AsFd) -> io::Result<Self> {
        Ok(Self { credentials: peer_credentials(&socket)?, pidfd: peer_pidfd(&socket) })
    }

    /// Process, user and group at the time it connected or began to listen.
    #[must_use]
    pub fn credentials(&self) -> &PeerCredentials {
        &self.credentials
    }

    /// A descriptor of the process itself, which names it even after its number was given to another; `None` where the
    /// kernel has none (before 6.5).
    #[must_use]
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }
}
