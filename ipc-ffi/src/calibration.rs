//! What lanes cost on this machine.

use crate::boundary::{boundary, out};
use crate::error::Failure;
use crate::options::{fill, mode};
use crate::result::ipc_result;
use crate::route::lane;
use ipc_core::calibration::{Origin, Queue, in_use, measure_now};
use ipc_core::router::{Cost, Crossover, crossover};

/// Who measured costs.
///
/// Since 0.1.
#[repr(u32)]
pub enum ipc_calibration_origin {
    /// Nobody on this machine: they are compiled in.
    IPC_COSTS_DEFAULT = 0,
    /// A process of this user, for 40 ms.
    IPC_COSTS_QUICK = 1,
    /// The command `ipc calibrate`.
    IPC_COSTS_FULL = 2,
}

/// What a message of s bytes costs on a lane, from the call that sends it until the receiver has every byte: fixed_ns + per_byte_ns * s
/// up to knee bytes; fixed_beyond_ns + per_byte_beyond_ns * (s - knee) for longer ones. It may grow at its end in later versions.
///
/// Since 0.1.
#[repr(C)]
pub struct ipc_cost {
    /// sizeof(ipc_cost), to be set before the call.
    pub size: usize,
    /// An ipc_calibration_origin.
    pub origin: u32,
    /// 0.
    pub reserved: u32,
    /// In ns.
    pub fixed_ns: f64,
    /// In ns per byte.
    pub per_byte_ns: f64,
    /// In bytes; UINT64_MAX if one line holds for all lengths.
    pub knee: u64,
    /// In ns, of a message of knee bytes.
    pub fixed_beyond_ns: f64,
    /// In ns per byte beyond knee.
    pub per_byte_beyond_ns: f64,
}

/// What a lane costs by the costs that this process uses: those that were measured and kept for this boot, else those that are compiled in.
///
/// connection_mode: an ipc_mode, which says what the queue is. which_lane: an ipc_lane. cost: filled; its size must be set.
/// Returns IPC_OK; IPC_NO_LANE if there is none in that mode; IPC_INVALID. Any thread. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_get_cost(connection_mode: u32, which_lane: u32, cost: *mut ipc_cost) -> ipc_result {
    boundary(|| {
        let (mode, lane) = (mode(connection_mode)?, lane(which_lane.into())?);
        let calibration = in_use().calibration();
        let model = calibration.model(Queue::of(mode), lane);
        let model = model.ok_or_else(|| Failure::Route(ipc_core::router::RouterError::MissingLane { lane }))?;
        let (knee, above) = model.above().unwrap_or((u64::MAX, model.below()));
        let value = ipc_cost {
            size: 0,
            origin: origin_code(calibration.origin()) as u32,
            reserved: 0,
            fixed_ns: model.below().fixed_ns(),
            per_byte_ns: model.below().per_byte_ns(),
            knee,
            fixed_beyond_ns: above.fixed_ns(),
            per_byte_beyond_ns: above.per_byte_ns(),
        };
        // SAFETY: the caller's pointer, with its size.
        unsafe { fill(cost, size_of::<ipc_cost>(), "cost", value) }
    })
}

fn origin_code(origin: Origin) -> ipc_calibration_origin {
    match origin {
        Origin::Quick => ipc_calibration_origin::IPC_COSTS_QUICK,
        Origin::Full => ipc_calibration_origin::IPC_COSTS_FULL,
        _ => ipc_calibration_origin::IPC_COSTS_DEFAULT,
    }
}

/// Measures what lanes cost now, for at most 40 ms, keeps it for this boot, and uses it for this process's connections. Without it a
/// process does so by itself once that pays. For a measurement between two processes there is the command `ipc calibrate`.
///
/// Returns IPC_OK; IPC_WOULD_BLOCK if the machine was too busy to be believed, or another thread measures: the costs in use stay.
/// Any thread. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn ipc_calibrate() -> ipc_result {
    boundary(|| measure_now().map(drop).ok_or_else(|| Failure::Nothing("measurement that can be believed")))
}

/// Up to which length a message should go through a queue whole, rather than through shared memory with a notification of notify_bytes
/// bytes through the queue: T = (a_s + b_q * d) / (b_q - b_s), rounded down. UINT64_MAX where no length pays.
///
/// queue_ns, queue_ns_per_byte: what a message costs through the queue, a_q and b_q. shared_ns, shared_ns_per_byte: what its bytes cost
/// in shared memory alone, a_s and b_s. All 0 or more. threshold: filled, in bytes.
/// Returns IPC_OK; IPC_INVALID for costs out of range. Any thread. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_crossover(
    queue_ns: f64,
    queue_ns_per_byte: f64,
    shared_ns: f64,
    shared_ns_per_byte: f64,
    notify_bytes: u64,
    threshold: *mut u64,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's pointer.
        let threshold = unsafe { out(threshold, "threshold") }?;
        let cost = |fixed, per_byte| Cost::new(fixed, per_byte).map_err(|error| Failure::Invalid(error.to_string()));
        *threshold =
            match crossover(cost(queue_ns, queue_ns_per_byte)?, cost(shared_ns, shared_ns_per_byte)?, notify_bytes) {
                Crossover::FirstUpTo(bytes) => bytes,
                _ => u64::MAX,
            };
        Ok(())
    })
}
