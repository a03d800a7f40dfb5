//! What compiled programs rely on: size, alignment and offsets of every structure, and the number of every enumerator.
//!
//! Promise: none of it changes, and no field or enumerator is added, without an error here; `include/ipc.h` ends with the same
//! assertions for the compilers of its users. Refusal: nothing is promised where pointers do not have 64 bits.

use crate::fast::{RecvWindow as ipc_recv_window, SendWindow as ipc_send_window};
use crate::*;

/// A structure of the header, as it lies in memory where pointers have 64 bits.
pub struct Structure {
    /// Its name.
    pub name: &'static str,
    /// In bytes.
    pub size: usize,
    /// In bytes.
    pub align: usize,
    /// Each field with its offset in bytes, in order.
    pub fields: &'static [(&'static str, usize)],
}

macro_rules! structures {
    (
        $(#[$doc:meta])+
        $list:ident:
        $($name:ident, size $size:literal, align $align:literal { $($field:ident: $offset:literal,)+ })+
    ) => {
        $(#[$doc])+
        pub const $list: &[Structure] = &[$(Structure {
            name: stringify!($name),
            size: $size,
            align: $align,
            fields: &[$((stringify!($field), $offset)),+],
        }),+];

        #[cfg(target_pointer_width = "64")]
        const _: () = {
            $(
                assert!(size_of::<$name>() == $size, concat!("the size of ", stringify!($name)));
                assert!(align_of::<$name>() == $align, concat!("the alignment of ", stringify!($name)));
                $(assert!(
                    std::mem::offset_of!($name, $field) == $offset,
                    concat!("the offset of ", stringify!($name), ".", stringify!($field))
                );)+
                // A field that is not listed is missing from this pattern.
                let _ = |$name { $($field: _),+ }: $name| ();
            )+
        };
    };
}

macro_rules! enumerations {
    ($($name:ident: $repr:ident { $($enumerator:ident = $number:literal,)+ })+) => {
        /// Every enumeration. The numbers of each have 32 bits.
        pub const ENUMERATIONS: &[&str] = &[$(stringify!($name)),+];

        const _: () = {
            $(
                assert!(size_of::<$name>() == size_of::<$repr>(), concat!("the size of ", stringify!($name)));
                $(assert!(
                    $name::$enumerator as $repr == $number,
                    concat!("the number of ", stringify!($enumerator))
                );)+
                // An enumerator that is not listed is missing from this match.
                let _ = |value: $name| match value { $($name::$enumerator => ()),+ };
            )+
        };
    };
}

structures! {
    /// Every structure that programs can see into.
    STRUCTURES:
    ipc_cost, size 56, align 8 {
        size: 0,
        origin: 8,
        reserved: 12,
        fixed_ns: 16,
        per_byte_ns: 24,
        knee: 32,
        fixed_beyond_ns: 40,
        per_byte_beyond_ns: 48,
    }
    ipc_peer, size 16, align 4 {
        pid: 0,
        uid: 4,
        gid: 8,
        pidfd: 12,
    }
    ipc_options, size 168, align 8 {
        size: 0,
        mode: 8,
        flags: 12,
        wait: 16,
        permissions: 20,
        spin_ns: 24,
        timeout_ns: 32,
        ring_to_server: 40,
        ring_to_client: 48,
        max_connections: 56,
        max_memory: 64,
        credit_messages: 72,
        credit_arena: 80,
        credit_message: 88,
        coalesce_messages: 96,
        coalesce_ns: 104,
        users: 112,
        user_count: 120,
        admit: 128,
        admit_data: 136,
        payload_name: 144,
        payload_size: 152,
        payload_align: 160,
    }
    ipc_message, size 32, align 8 {
        data: 0,
        len: 8,
        lane: 16,
        flags: 20,
        files: 24,
        reserved: 28,
    }
    ipc_listener_status, size 32, align 8 {
        size: 0,
        connections: 8,
        refused: 16,
        last_refusal: 24,
        reserved: 28,
    }
    ipc_slice, size 16, align 8 {
        data: 0,
        len: 8,
    }
    ipc_send_status, size 104, align 8 {
        size: 0,
        sent: 8,
        consumed: 16,
        sleeps: 24,
        ring_capacity: 32,
        ring_used: 40,
        arena_size: 48,
        arena_limit: 56,
        arena_used: 64,
        arena_blocks: 72,
        max_message: 80,
        max_reservation: 88,
        credit_messages: 96,
    }
    ipc_recv_status, size 56, align 8 {
        size: 0,
        received: 8,
        sleeps: 16,
        ring_capacity: 24,
        ring_used: 32,
        waiting: 40,
        mapped: 48,
    }
}

structures! {
    /// What the inlined code of the header works on.
    WINDOWS:
    ipc_send_window, size 48, align 8 {
        base: 0,
        end: 8,
        limit: 16,
        longest: 24,
        stamp: 32,
        records: 40,
    }
    ipc_recv_window, size 64, align 8 {
        base: 0,
        index: 8,
        limit: 16,
        longest: 24,
        stamp: 32,
        left: 40,
        read: 48,
        lane: 56,
        reserved: 60,
    }
}

enumerations! {
    ipc_result: i32 {
        IPC_OK = 0,
        IPC_WOULD_BLOCK = 1,
        IPC_TIMED_OUT = 2,
        IPC_DISCONNECTED = 3,
        IPC_PEER_DIED = 4,
        IPC_VIOLATION = 5,
        IPC_TOO_LARGE = 6,
        IPC_TOO_SHORT = 7,
        IPC_NO_MEMORY = 8,
        IPC_TOO_MANY_FILES = 9,
        IPC_NO_LANE = 10,
        IPC_FORKED = 11,
        IPC_SYSTEM = 12,
        IPC_INVALID = 13,
        IPC_CLOSED = 14,
        IPC_BUSY = 15,
        IPC_NOT_FOUND = 16,
        IPC_ADDRESS_IN_USE = 17,
        IPC_BAD_ADDRESS = 18,
        IPC_REFUSED = 19,
        IPC_NOT_ADMITTED = 20,
        IPC_DEFECT = 21,
    }
    ipc_mode: u32 {
        IPC_MODE_DEFAULT = 0,
        IPC_MODE_KERNEL = 1,
        IPC_MODE_HYBRID = 2,
        IPC_MODE_SHARED = 3,
        IPC_MODE_AUTO = 4,
    }
    ipc_wait: u32 {
        IPC_WAIT_DEFAULT = 0,
        IPC_WAIT_ADAPTIVE = 1,
        IPC_WAIT_SLEEP = 2,
        IPC_WAIT_BUSY = 3,
    }
    ipc_lane: u32 {
        IPC_LANE_KERNEL = 1,
        IPC_LANE_INLINE = 2,
        IPC_LANE_ARENA = 3,
        IPC_LANE_FILE = 4,
    }
    ipc_route: u32 {
        IPC_ROUTE_COSTS = 0,
        IPC_ROUTE_LANE = 1,
        IPC_ROUTE_THRESHOLD = 2,
    }
    ipc_refusal: u32 {
        IPC_REFUSAL_NONE = 0,
        IPC_REFUSAL_VERSION = 1,
        IPC_REFUSAL_CONNECTIONS = 2,
        IPC_REFUSAL_MEMORY = 3,
        IPC_REFUSAL_CREDENTIALS = 4,
        IPC_REFUSAL_PAYLOAD = 5,
        IPC_REFUSAL_OTHER = 6,
    }
    ipc_log_level: u32 {
        IPC_LOG_ERROR = 1,
        IPC_LOG_WARNING = 2,
        IPC_LOG_INFO = 3,
        IPC_LOG_DEBUG = 4,
    }
    ipc_calibration_origin: u32 {
        IPC_COSTS_DEFAULT = 0,
        IPC_COSTS_QUICK = 1,
        IPC_COSTS_FULL = 2,
    }
}
