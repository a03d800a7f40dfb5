//! What the two sides agree on when they connect: the mode, how much each accepts from the other, and the type of the messages.
//!
//! Promise: both sides end up with the same terms, each field checked. Refusal: nothing here is about memory or sockets; the packets
//! are in [`crate::handshake`].

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which lanes a connection has: how the bytes of a message travel.
///
/// The two sides may want different modes; the connection gets the one that asks for less, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// The socket alone. No memory is shared, nothing is mapped: for peers that must not share memory.
    Kernel,
    /// Small messages in packets of the socket; large ones in shared blocks or sealed files, with a notice of 16 bytes in a packet.
    Hybrid,
    /// Small messages in a shared ring, larger ones in shared blocks or sealed files.
    Shared,
    /// All lanes: as `Shared`, and through the kernel where that is cheaper on this machine. The default.
    #[default]
    Auto,
}

impl Mode {
    /// As it travels; 0 is no mode.
    pub(crate) const fn code(self) -> u32 {
        self as u32 + 1
    }

    pub(crate) const fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            1 => Self::Kernel,
            2 => Self::Hybrid,
            3 => Self::Shared,
            4 => Self::Auto,
            _ => return None,
        })
    }

    pub(crate) const LAST_CODE: u64 = 4;

    /// Says whether records travel in packets of the socket and not in shared memory.
    pub(crate) const fn queues_in_socket(self) -> bool {
        matches!(self, Self::Kernel | Self::Hybrid)
    }

    /// Says whether messages can lie in an arena.
    pub(crate) const fn has_arena(self) -> bool {
        !matches!(self, Self::Kernel)
    }
}

impl core::fmt::Display for Mode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Hybrid => "hybrid",
            Self::Shared => "shared",
            Self::Auto => "auto",
        })
    }
}

/// Credit: how much a receiver lets its peer have on the way to it, or held by it.
///
/// The peer's sender keeps to it, and waits. Bytes are checked on arrival: a peer that sends more has broken the protocol.
///
/// # Examples
/// ```no_run
/// let mut credit = ipc_core::Credit::default();
/// credit.message = 16 << 20; // bytes: what a peer that is not trusted may send at a time
/// let server = ipc_core::ListenOptions::new().credit(credit).bind("camera")?.accept()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credit {
    /// Messages that are sent and not consumed; 0 counts as 1. Default: as many as the ring holds.
    pub messages: u64,
    /// Bytes of the peer's arena: messages beside the ring that are on the way or held. It also bounds one message that comes in
    /// pieces, which are kept in memory of the receiver. From 32 MiB on, up to an eighth of it, at most 32 MiB, is for
    /// copies alone, and not there for loans and long copies while any of them is held. Default: 256 MiB.
    pub arena: u64,
    /// Bytes in one message. Default: 1 TiB.
    pub message: u64,
}

impl Default for Credit {
    fn default() -> Self {
        Self { messages: u64::MAX, arena: 256 << 20, message: 1 << 40 }
    }
}

impl Credit {
    /// The largest message, in bytes, that may come in pieces through a queue of this capacity: the receiver keeps them in memory of its
    /// own, as much as it would give an arena.
    pub(crate) fn pieces(&self, capacity: u64) -> u64 {
        self.message.min(self.arena.max(crate::layout::max_record(capacity)))
    }
}

/// Bytes of the longest name of a type that travels; longer ones are cut at the front.
const NAME: usize = 64;

/// Name, size and alignment of the type that the messages of a connection have.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PayloadType {
    size: u64,
    align: u64,
    name: [u8; NAME],
}

impl PayloadType {
    /// That of `T`.
    #[must_use]
    pub fn of<T: FromBytes + IntoBytes + Immutable>() -> Self {
        Self { size: size_of::<T>() as u64, align: align_of::<T>() as u64, name: cut(core::any::type_name::<T>()) }
    }

    /// That of a type that this program knows by name, size and alignment in bytes only: of one that is made while it runs, or of a
    /// program in another language. A name of more than 64 bytes is cut at the front. `None` if the alignment is no power of two.
    ///
    /// # Examples
    /// ```
    /// let pose = ipc_core::PayloadType::named("robot::Pose", 56, 8).expect("a power of two");
    /// assert_eq!((pose.name().as_str(), pose.size(), pose.align()), ("robot::Pose", 56, 8));
    /// ```
    #[must_use]
    pub fn named(name: &str, size: u64, align: u64) -> Option<Self> {
        align.is_power_of_two().then(|| Self { size, align, name: cut(name) })
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Alignment in bytes.
    #[must_use]
    pub fn align(&self) -> u64 {
        self.align
    }

    /// The name, with what is no text in it replaced.
    #[must_use]
    pub fn name(&self) -> std::string::String {
        let end = self.name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        std::string::String::from_utf8_lossy(&self.name[..end]).into_owned()
    }

    /// A number that stands for the name (FNV-1a).
    pub(crate) fn name_hash(&self) -> u64 {
        self.name.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    /// Says whether this is the type of something: all zeroes stand for any type.
    fn is_any(&self) -> bool {
        self.align == 0
    }
}

impl core::fmt::Debug for PayloadType {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({} bytes, aligned to {})", self.name(), self.size, self.align)
    }
}

/// The end of a name, as it travels.
fn cut(name: &str) -> [u8; NAME] {
    let kept = &name.as_bytes()[name.len().saturating_sub(NAME)..];
    let mut cut = [0; NAME];
    cut[..kept.len()].copy_from_slice(kept);
    cut
}

/// What one side says of itself, as it travels in hello and welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Terms {
    /// [`Mode::code`]: wished in a hello, settled in a welcome.
    pub(crate) mode: u32,
    /// Bit 0: this side's sender may delay its doorbell, so the peer's receiver sleeps on a timer too.
    pub(crate) flags: u32,
    messages: u64,
    arena: u64,
    message: u64,
    payload: PayloadType,
}

const FLAG_COALESCES: u32 = 1;

impl Terms {
    pub(crate) fn new(mode: Mode, credit: Credit, payload: Option<PayloadType>, coalesces: bool) -> Self {
        let any = PayloadType { size: 0, align: 0, name: [0; NAME] };
        Self {
            mode: mode.code(),
            flags: if coalesces { FLAG_COALESCES } else { 0 },
            messages: credit.messages,
            arena: credit.arena,
            message: credit.message,
            payload: payload.unwrap_or(any),
        }
    }

    /// The mode. Only for terms that were [checked](Self::check).
    pub(crate) fn mode(&self) -> Mode {
        Mode::from_code(self.mode).unwrap_or(Mode::Kernel)
    }

    pub(crate) fn coalesces(&self) -> bool {
        self.flags & FLAG_COALESCES != 0
    }

    /// What this side's receiver accepts.
    pub(crate) fn credit(&self) -> Credit {
        Credit { messages: self.messages.max(1), arena: self.arena, message: self.message }
    }

    /// The type of this side's messages, if it has one.
    pub(crate) fn payload(&self) -> Option<PayloadType> {
        (!self.payload.is_any()).then_some(self.payload)
    }

    /// The field that is wrong, its value and what is allowed.
    pub(crate) fn check(&self) -> Result<(), (&'static str, u64, u64, u64)> {
        if Mode::from_code(self.mode).is_none() {
            return Err(("mode", self.mode.into(), 1, Mode::LAST_CODE));
        }
        let align = self.payload.align;
        if align != 0 && !align.is_power_of_two() {
            return Err(("alignment of the payload (a power of two)", align, 1, 1 << 63));
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_mode_that_asks_for_less_is_the_smaller_one() {
        assert!(Mode::Kernel < Mode::Hybrid && Mode::Hybrid < Mode::Shared && Mode::Shared < Mode::Auto);
        for mode in [Mode::Kernel, Mode::Hybrid, Mode::Shared, Mode::Auto] {
            assert_eq!(Mode::from_code(mode.code()), Some(mode));
        }
        assert_eq!((Mode::from_code(0), Mode::from_code(5)), (None, None));
    }

    #[test]
    fn types_that_differ_in_name_alone_differ() {
        let (one, other) = (PayloadType::of::<u32>(), PayloadType::of::<i32>());
        assert_eq!((one.size(), one.align()), (other.size(), other.align()));
        assert_ne!(one.name_hash(), other.name_hash());
        assert_eq!(one.name(), "u32");
    }
}
