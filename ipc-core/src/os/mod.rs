//! The operating system: the only folder that names a system call.

pub(crate) mod address;
pub(crate) mod admission;
pub(crate) mod bell;
pub(crate) mod fork;
pub(crate) mod membarrier;
pub(crate) mod packet;
pub(crate) mod peer;
pub(crate) mod processor;
pub(crate) mod rendezvous;
pub(crate) mod segment;
pub(crate) mod socket;
