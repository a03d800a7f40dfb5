//! The operating system: the only folder that names a system call.

pub(crate) mod address;
pub(crate) mod admission;
pub(crate) mod bell;
pub(crate) mod carrier;
pub(crate) mod files;
pub(crate) mod fork;
pub(crate) mod keep;
pub(crate) mod machine;
pub(crate) mod membarrier;
pub(crate) mod packet;
pub(crate) mod payload;
pub(crate) mod peer;
pub(crate) mod processor;
pub(crate) mod region;
pub(crate) mod rendezvous;
pub(crate) mod segment;
pub(crate) mod socket;
pub(crate) mod thread;
pub(crate) mod timer;
