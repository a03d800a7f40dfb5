//! How to listen and to connect.
//!
//! Promise: a field that this library does not know, or that has no meaning for the call, is an error unless it is zero.

use crate::boundary::check;
use crate::connection::ipc_peer;
use crate::error::Failure;
use ipc_core::WaitStrategy;
use ipc_core::{ConnectOptions, Credit, ListenOptions, Mode, PayloadType, PeerCredentials, PeerPolicy, SegmentOptions};
use std::ffi::{CStr, c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

/// For a timeout: without end. Any negative number is.
///
/// Since 0.1.
pub const IPC_FOREVER: i64 = -1;

/// Which lanes a connection has. Both sides may want different ones: it gets the one that asks for less, the first in this list.
///
/// Since 0.1.
#[repr(u32)]
pub enum ipc_mode {
    /// In options: all lanes, IPC_MODE_AUTO.
    IPC_MODE_DEFAULT = 0,
    /// The socket alone. No memory is shared, nothing is mapped.
    IPC_MODE_KERNEL = 1,
    /// Small messages in packets of the socket, large ones in shared memory with a notice of 16 bytes in a packet.
    IPC_MODE_HYBRID = 2,
    /// Small messages in a shared ring, large ones in shared memory beside it.
    IPC_MODE_SHARED = 3,
    /// All lanes, the one that costs least for each message.
    IPC_MODE_AUTO = 4,
}

/// How calls that may wait do so.
///
/// Since 0.1.
#[repr(u32)]
pub enum ipc_wait {
    /// In options: IPC_WAIT_ADAPTIVE with 50 us.
    IPC_WAIT_DEFAULT = 0,
    /// Poll for up to a given time, less where that has not paid lately, then sleep.
    IPC_WAIT_ADAPTIVE = 1,
    /// Sleep at once.
    IPC_WAIT_SLEEP = 2,
    /// Poll without end: lowest latency, a core fully used.
    IPC_WAIT_BUSY = 3,
}

/// In options: take memory when it is first used, not when the connection is made. A shortage is then a signal, not an error.
pub const IPC_LAZY_MEMORY: u32 = 1;
/// In options: map pages when they are first used.
pub const IPC_LAZY_PAGES: u32 = 2;
/// In options: huge pages, where the system has any to give.
pub const IPC_HUGE_PAGES: u32 = 4;
/// In options: no membarrier(2); fences instead.
pub const IPC_NO_MEMBARRIER: u32 = 8;
/// In options: admit every user who can open the socket file.
pub const IPC_ANYONE: u32 = 16;
/// In options of ipc_connect: wait for a listener that is not there yet, until the timeout.
pub const IPC_WAIT_FOR_LISTENER: u32 = 32;
/// In options: the receiver takes no message that lies in shared memory beside the ring; together with a small ring that bounds what a
/// peer can make this process map. The same as a limit of 0 bytes, which a zero field cannot say.
pub const IPC_NO_ARENA: u32 = 64;

/// Says whether a peer is admitted: not 0 if so. It is called while ipc_accept or ipc_connect runs, and must not call this library.
///
/// Since 0.1.
pub type ipc_admit_fn = Option<unsafe extern "C" fn(user_data: *mut c_void, peer: *const ipc_peer) -> i32>;

/// How to listen and to connect. Zero in a field stands for its default. Fill it with ipc_options_init, then set what should differ; it
/// may grow at its end in later versions.
///
/// Since 0.1.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ipc_options {
    /// sizeof(ipc_options) of the program; set by ipc_options_init.
    pub size: usize,
    /// An ipc_mode. Default: IPC_MODE_AUTO.
    pub mode: u32,
    /// IPC_LAZY_MEMORY and the like, or'ed.
    pub flags: u32,
    /// An ipc_wait. Default: IPC_WAIT_ADAPTIVE.
    pub wait: u32,
    /// Permission bits of the socket file. Listeners only. Default: 0600.
    pub permissions: u32,
    /// With IPC_WAIT_ADAPTIVE: how long to poll at most, in ns. Default: 50000.
    pub spin_ns: u64,
    /// To connect: how long to wait for the listener's answer, in ns; negative: without end. Default: 5 s. To listen: how long a
    /// client may be silent after it has connected. Default: 1 s.
    pub timeout_ns: i64,
    /// Bytes of the ring to the server: a power of two from 4 KiB to 1 GiB. Listeners: of both rings, for clients that ask for none;
    /// default 256 KiB. To connect: asks for it; the server may give another. Set both or none.
    pub ring_to_server: u64,
    /// To connect: bytes of the ring to the client, as ring_to_server. Listeners: the largest ring that a client gets; default 64 MiB.
    pub ring_to_client: u64,
    /// Listeners: connections at a time. Default: 1024.
    pub max_connections: u64,
    /// Listeners: bytes of all rings together. To connect: the largest segment to map, in bytes. Default: 4 GiB.
    pub max_memory: u64,
    /// Messages that the peer may have on the way to us. Default: as many as the ring holds.
    pub credit_messages: u64,
    /// Bytes that the peer may have in shared memory beside the ring, on the way to us or held by us. Default: 256 MiB.
    pub credit_arena: u64,
    /// Bytes in one message that the peer may send us. Default: 1 TiB.
    pub credit_message: u64,
    /// With coalesce_ns: wake a sleeping peer when so many messages wait for it. 0 or 1: at once.
    pub coalesce_messages: u64,
    /// With coalesce_messages: or when the first of them has waited for so long, in ns.
    pub coalesce_ns: u64,
    /// Users whose processes are admitted as peers; NULL: our own alone. Read by the call only.
    pub users: *const u32,
    /// How many users there are.
    pub user_count: usize,
    /// Decides who is admitted, instead of users. A listener calls it as long as it lives.
    pub admit: ipc_admit_fn,
    /// The first argument of admit.
    pub admit_data: *mut c_void,
    /// Name of the type that all messages have, at most 64 bytes; NULL: of any type. A peer that names another type, or another size or
    /// alignment of it, is refused. Read by the call only.
    pub payload_name: *const c_char,
    /// With payload_name: size of the type in bytes.
    pub payload_size: u64,
    /// With payload_name: its alignment in bytes, a power of two.
    pub payload_align: u64,
}

/// Fills options with the defaults: all zero but the size. `size` is sizeof(ipc_options) in the calling program.
///
/// Returns IPC_OK, or IPC_INVALID if options is NULL or the size too small. Any thread. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_options_init(options: *mut ipc_options, size: usize) -> crate::result::ipc_result {
    crate::boundary::boundary(|| {
        check(options, 1, "options")?;
        check_size("the options", size, LEAST_SIZE)?;
        // SAFETY: the caller has so many bytes there.
        unsafe {
            options.cast::<u8>().write_bytes(0, size);
            options.cast::<usize>().write(size);
        }
        Ok(())
    })
}

/// What the first version had.
const LEAST_SIZE: usize = size_of::<ipc_options>();
/// No structure of this interface will ever be larger, in bytes; whoever says so did not fill the field.
const MOST_SIZE: usize = 4096;

fn check_size(of: &str, size: usize, least: usize) -> Result<(), Failure> {
    if (least..=MOST_SIZE).contains(&size) {
        return Ok(());
    }
    Err(Failure::invalid(&format!("the size of {of}"), size, &format!("{least} to {MOST_SIZE}, as sizeof says")))
}

/// Says that a structure that this library fills has `size` bytes, and fills what it knows of it.
///
/// # Safety
/// `target` is null or begins with a `size_t` that says how many bytes can be written there; `T` is plain data that does too.
pub(crate) unsafe fn fill<T>(target: *mut T, least: usize, argument: &'static str, value: T) -> Result<(), Failure> {
    check(target, 1, argument)?;
    // SAFETY: the caller's promise.
    let size = unsafe { target.cast::<usize>().read() };
    check_size(argument, size, least)?;
    let source = (&raw const value).cast::<u8>();
    let known = size.min(size_of::<T>());
    // SAFETY: as many bytes as both have; the size stays as the caller wrote it; what this library does not know is zero.
    unsafe {
        let head = size_of::<usize>();
        source.add(head).copy_to_nonoverlapping(target.cast::<u8>().add(head), known - head);
        target.cast::<u8>().add(known).write_bytes(0, size - known);
    }
    Ok(())
}

/// A copy of C's options, each field checked where it is used.
pub(crate) struct Given(ipc_options);

/// Options of either kind with what both have; they have the same methods for it, and no type in common.
macro_rules! with_common {
    ($options:expr, $common:expr) => {{
        let Common { policy, segment, strategy, membarrier, mode, credit, coalesce, payload } = $common;
        let options = $options.policy(policy).segment(segment).wait_strategy(strategy).membarrier(membarrier);
        let options = options.mode(mode).credit(credit).coalesce(coalesce.0, coalesce.1);
        if let Some(payload) = payload { options.payload_type(payload) } else { options }
    }};
}

impl Given {
    /// # Safety
    /// `options` is null, or begins with its size and has as many bytes.
    pub(crate) unsafe fn read(options: *const ipc_options) -> Result<Self, Failure> {
        let mut known = MaybeUninit::<ipc_options>::zeroed();
        if !options.is_null() {
            check(options, 1, "options")?;
            // SAFETY: the caller's promise, and aligned.
            let size = unsafe { options.cast::<usize>().read() };
            check_size("the options", size, LEAST_SIZE)?;
            let copied = size.min(size_of::<ipc_options>());
            // SAFETY: as many bytes as both have; the rest of the caller's is read byte by byte.
            unsafe {
                options.cast::<u8>().copy_to_nonoverlapping(known.as_mut_ptr().cast(), copied);
                if let Some(at) = (copied..size).find(|at| *options.cast::<u8>().add(*at) != 0) {
                    let text = format!(
                        "the options have a field at byte {at} that this library does not know; it knows {copied} bytes"
                    );
                    return Err(Failure::Invalid(text));
                }
            }
        }
        // SAFETY: zero bytes, and what the caller wrote there, are options: numbers and nullable pointers.
        Ok(Self(unsafe { known.assume_init() }))
    }

    pub(crate) fn listen(&self) -> Result<ListenOptions, Failure> {
        let Self(given) = self;
        let mut options = ListenOptions::new();
        if given.flags & IPC_WAIT_FOR_LISTENER != 0 {
            return Err(Failure::Invalid("IPC_WAIT_FOR_LISTENER is for ipc_connect".into()));
        }
        if given.ring_to_server != 0 {
            options = options.capacity(given.ring_to_server);
        }
        if given.ring_to_client != 0 {
            options = options.max_capacity(given.ring_to_client);
        }
        if given.permissions != 0 {
            options = options.permissions(given.permissions);
        }
        if given.max_connections != 0 {
            options = options.max_connections(given.max_connections);
        }
        if given.max_memory != 0 {
            options = options.max_memory(given.max_memory);
        }
        match given.timeout_ns {
            0 => {}
            1.. => options = options.handshake_timeout(Duration::from_nanos(given.timeout_ns as u64)),
            _ => return Err(Failure::invalid("timeout_ns of a listener", given.timeout_ns, "0 and more")),
        }
        Ok(with_common!(options, self.common()?))
    }

    pub(crate) fn connect(&self) -> Result<ConnectOptions, Failure> {
        let Self(given) = self;
        let mut options = ConnectOptions::new().wait_for_listener(given.flags & IPC_WAIT_FOR_LISTENER != 0);
        if given.permissions != 0 || given.max_connections != 0 {
            return Err(Failure::Invalid("permissions and max_connections are for ipc_listen".into()));
        }
        match (given.ring_to_server, given.ring_to_client) {
            (0, 0) => {}
            (to_server, to_client) => options = options.capacities(to_server, to_client),
        }
        if given.max_memory != 0 {
            options = options.max_segment(given.max_memory);
        }
        match given.timeout_ns {
            0 => {}
            1.. => options = options.timeout(Duration::from_nanos(given.timeout_ns as u64)),
            _ => options = options.no_timeout(),
        }
        Ok(with_common!(options, self.common()?))
    }

    fn common(&self) -> Result<Common, Failure> {
        let Self(given) = self;
        let known = 2 * IPC_NO_ARENA - 1;
        if given.flags & !known != 0 {
            return Err(Failure::invalid("flags", format_args!("{:#x}", given.flags), &format!("bits of {known:#x}")));
        }
        let has = |flag| given.flags & flag != 0;
        let mut credit = Credit::default();
        for (field, wanted) in [
            (&mut credit.messages, given.credit_messages),
            (&mut credit.arena, given.credit_arena),
            (&mut credit.message, given.credit_message),
        ] {
            if wanted != 0 {
                *field = wanted;
            }
        }
        if has(IPC_NO_ARENA) {
            if given.credit_arena != 0 {
                return Err(Failure::invalid("credit_arena with IPC_NO_ARENA", given.credit_arena, "0"));
            }
            credit.arena = 0;
        }
        if (given.coalesce_messages > 1) != (given.coalesce_ns > 0) && given.coalesce_messages != 1 {
            let (messages, ns) = (given.coalesce_messages, given.coalesce_ns);
            return Err(Failure::Invalid(format!(
                "coalesce_messages is {messages} and coalesce_ns is {ns}; allowed: both or none"
            )));
        }
        let segment = SegmentOptions {
            reserve: !has(IPC_LAZY_MEMORY),
            prefault: !has(IPC_LAZY_PAGES),
            huge_pages: has(IPC_HUGE_PAGES),
        };
        Ok(Common {
            policy: self.policy()?,
            segment,
            strategy: strategy(given.wait, given.spin_ns)?,
            membarrier: !has(IPC_NO_MEMBARRIER),
            mode: mode(given.mode)?,
            credit,
            coalesce: (given.coalesce_messages, Duration::from_nanos(given.coalesce_ns)),
            payload: self.payload()?,
        })
    }

    fn policy(&self) -> Result<PeerPolicy, Failure> {
        let Self(given) = self;
        // SAFETY: the caller of `read` has so many users there while the call runs.
        let users = unsafe { crate::boundary::slice(given.users, given.user_count, "users") }?;
        if !given.users.is_null() && (users.is_empty() || given.flags & IPC_ANYONE != 0) {
            let text = format!(
                "users are given, {} of them, or IPC_ANYONE; allowed: one of both, and at least 1",
                users.len()
            );
            return Err(Failure::Invalid(text));
        }
        Ok(match given.admit {
            Some(admit) => {
                let admit = Admit { admit, data: given.admit_data };
                PeerPolicy::Custom(Arc::new(move |peer| admit.asks(peer)))
            }
            None if given.flags & IPC_ANYONE != 0 => PeerPolicy::Anyone,
            None if !users.is_empty() => PeerPolicy::Users(users.to_vec()),
            None => PeerPolicy::SameUser,
        })
    }

    fn payload(&self) -> Result<Option<PayloadType>, Failure> {
        let Self(given) = self;
        if given.payload_name.is_null() {
            if given.payload_size != 0 || given.payload_align != 0 {
                return Err(Failure::Invalid("payload_size and payload_align are for a payload_name".into()));
            }
            return Ok(None);
        }
        // SAFETY: the caller of `read` gave a text that ends.
        let name = unsafe { CStr::from_ptr(given.payload_name) }.to_string_lossy();
        if !(1..=64).contains(&name.len()) {
            return Err(Failure::invalid("the length of payload_name", name.len(), "1 to 64 bytes"));
        }
        let payload = PayloadType::named(&name, given.payload_size, given.payload_align);
        payload.ok_or_else(|| Failure::invalid("payload_align", given.payload_align, "powers of two")).map(Some)
    }
}

/// What both kinds of options have.
struct Common {
    policy: PeerPolicy,
    segment: SegmentOptions,
    strategy: WaitStrategy,
    membarrier: bool,
    mode: Mode,
    credit: Credit,
    coalesce: (u64, Duration),
    payload: Option<PayloadType>,
}

/// C's function that decides who is admitted.
struct Admit {
    admit: unsafe extern "C" fn(*mut c_void, *const ipc_peer) -> i32,
    data: *mut c_void,
}

// SAFETY: the options say that the function is called by whichever thread accepts or connects.
unsafe impl Send for Admit {}
// SAFETY: as above.
unsafe impl Sync for Admit {}

impl Admit {
    fn asks(&self, peer: &PeerCredentials) -> bool {
        let peer = ipc_peer::of(peer);
        // SAFETY: what the options gave for this; the peer lives until it returns.
        unsafe { (self.admit)(self.data, &raw const peer) != 0 }
    }
}

pub(crate) fn mode(value: u32) -> Result<Mode, Failure> {
    Ok(match value {
        0 | 4 => Mode::Auto,
        1 => Mode::Kernel,
        2 => Mode::Hybrid,
        3 => Mode::Shared,
        _ => return Err(Failure::invalid("mode", value, "0 to 4, an ipc_mode")),
    })
}

pub(crate) fn strategy(wait: u32, spin_ns: u64) -> Result<WaitStrategy, Failure> {
    Ok(match (wait, spin_ns) {
        (0 | 1, 0) => WaitStrategy::default(),
        (0 | 1, _) => WaitStrategy::Adaptive(Duration::from_nanos(spin_ns)),
        (2, _) => WaitStrategy::Sleep,
        (3, _) => WaitStrategy::Busy,
        _ => return Err(Failure::invalid("wait", wait, "0 to 3, an ipc_wait")),
    })
}
