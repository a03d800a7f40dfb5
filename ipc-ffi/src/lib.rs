//! The C interface: `libipc.so` and `libipc.a`. Its manual is `include/ipc.h`, which is generated from here.
//!
//! Promise: a null pointer, a closed handle, a field out of range and a peer that is gone are results; no panic crosses to the caller.
//! Refusal: nothing is done here that `ipc-core` does not do; a file holds one noun of the header, in the header's order.
#![allow(non_camel_case_types, reason = "the names are those of the C header")]
#![allow(clippy::unnecessary_lazy_evaluations, reason = "a failure that is made only to be dropped again costs a call")]
#![allow(clippy::missing_safety_doc, reason = "each function says in C's words what it asks of its pointers")]

// In the order of the header.
mod batch;
mod calibration;
mod connection;
mod error;
mod held;
mod listener;
mod loan;
mod log;
mod options;
mod receive;
mod result;
mod route;
mod send;
mod status;
mod version;
mod wait;

mod boundary;
mod fast;
mod halves;
mod handle;
mod text;

#[doc(hidden)]
pub mod layout;

pub use batch::*;
pub use calibration::*;
pub use connection::*;
pub use error::*;
pub use held::*;
pub use listener::*;
pub use loan::*;
pub use log::*;
pub use options::*;
pub use receive::*;
pub use result::*;
pub use route::*;
pub use send::*;
pub use status::*;
pub use version::*;
pub use wait::*;
