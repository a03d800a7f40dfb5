//! Messages between processes of one machine.
#![cfg_attr(not(any(test, feature = "std")), no_std)]

pub mod doorbell;
pub mod layout;
pub mod ring;
mod sync;
