//! Messages that are written in place.

use crate::boundary::{Patience, boundary, out, out_if};
use crate::connection::{ipc_connection, sending};
use crate::error::Failure;
use crate::halves::Writing;
use crate::handle::Handles;
use crate::result::ipc_result;
use crate::send::idle;
use core::cell::UnsafeCell;
use ipc_core::{DetachedLoan, SendError, Sender, Unsent};
use std::ffi::c_void;

/// Memory for a message that was lent and detached from its connection. From any thread, one at a time.
///
/// Since 0.1.
pub struct ipc_loan(());

static LOANS: Handles<ipc_loan, UnsafeCell<DetachedLoan>> = Handles::new("loan", "loan");

/// Reserves a message of len bytes in the ring, to be written in place and then sent with ipc_commit or given up with ipc_cancel. For
/// small messages, at most max_reservation of ipc_send_status; beyond that there is ipc_lend. Until then nothing else can be sent.
///
/// data: where to write, aligned to 8 bytes, its bytes unspecified; NULL on failure. A hostile peer may write there too.
/// Other arguments and results as for ipc_send. Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_reserve(
    connection: *mut ipc_connection,
    len: usize,
    timeout_ns: i64,
    data: *mut *mut c_void,
) -> ipc_result {
    let reserve = |sender: &'static mut Sender| {
        let mut reservation = match Patience::of(timeout_ns) {
            Patience::Endless => sender.reserve(len)?,
            Patience::None => sender.try_reserve(len)?,
            Patience::Until(timeout) => sender.reserve_timeout(len, timeout)?,
        };
        Ok((reservation.as_mut_ptr(), Writing::Reservation(reservation)))
    };
    // SAFETY: the caller's handle and pointer, as the header asks.
    unsafe { begin(connection, data, reserve) }
}

/// Lends memory for a message of len bytes, of any length, to be written in place and then sent with ipc_commit, given up with ipc_cancel, or
/// detached with ipc_loan_detach. The receiver reads it where it was written: sending costs what a small message does. Until then
/// nothing else can be sent.
///
/// data: where to write, aligned to 128 bytes (in mode IPC_MODE_KERNEL, where it is copied: not aligned); its bytes unspecified; nobody else
/// can write there. NULL on failure. Other arguments and results as for ipc_send. Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_lend(
    connection: *mut ipc_connection,
    len: usize,
    timeout_ns: i64,
    data: *mut *mut c_void,
) -> ipc_result {
    let lend = |sender: &'static mut Sender| {
        let mut loan = match Patience::of(timeout_ns) {
            Patience::Endless => sender.loan(len)?,
            Patience::None => sender.try_loan(len)?,
            Patience::Until(timeout) => sender.loan_timeout(len, timeout)?,
        };
        Ok((loan.as_mut_ptr(), Writing::Loan(loan)))
    };
    // SAFETY: the caller's handle and pointer, as the header asks.
    unsafe { begin(connection, data, lend) }
}

/// Begins what `open` opens and tells where to write it.
///
/// # Safety
/// As [`sending`]; `data` is null or a pointer can be written there.
#[inline(always)]
unsafe fn begin(
    connection: *mut ipc_connection,
    data: *mut *mut c_void,
    open: impl FnOnce(&'static mut Sender) -> Result<(*mut u8, Writing), SendError>,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's promise; what is open is dropped before its sender.
        unsafe {
            let target = out(data, "data")?;
            *target = std::ptr::null_mut();
            let half = sending(connection)?;
            let (start, writing) = open(half.idle()?)?;
            *target = start.cast();
            *half.writing() = writing;
        }
        Ok(())
    })
}

/// Sends what was reserved or lent, as a message of len bytes. Wakes the peer only if it sleeps. The memory is not the caller's any more,
/// whatever is returned.
///
/// len: of a reservation what was reserved; of a loan at most what was lent.
/// Returns IPC_OK; IPC_BUSY if nothing is open; IPC_INVALID for a len out of range, and then it stays open; IPC_CLOSED. For a reservation
/// nothing else: that the peer is gone, or this process a forked child, shows in the next call. For a loan in the arena IPC_VIOLATION and
/// IPC_FORKED. For one that is not (ipc_loan_detach says IPC_NO_LANE) as ipc_send, waiting for room without end.
/// Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_commit(connection: *mut ipc_connection, len: usize) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle, as the header asks.
        let writing = unsafe { sending(connection)?.writing() };
        match writing {
            Writing::Reservation(reservation) if reservation.len() != len => {
                let allowed = format!("{}, what was reserved", reservation.len());
                return Err(Failure::invalid("len", len, &allowed));
            }
            // A loan has the length that was asked for until it is committed.
            Writing::Loan(loan) if loan.len() < len => {
                return Err(Failure::invalid("len", len, &format!("0 to {}, what was lent", loan.len())));
            }
            Writing::Reservation(_) | Writing::Loan(_) => {}
            Writing::Nothing | Writing::Batch(_) => {
                return Err(Failure::Busy("neither a reservation nor a loan is open"));
            }
        }
        match std::mem::replace(writing, Writing::Nothing) {
            Writing::Reservation(reservation) => reservation.commit(),
            Writing::Loan(mut loan) => {
                loan.set_len(len);
                loan.send()?;
            }
            _ => {}
        }
        Ok(())
    })
}

/// Gives up the batch, reservation or loan that is open, if one is. Nothing of it is sent.
///
/// Returns IPC_OK; IPC_INVALID; IPC_CLOSED. Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_cancel(connection: *mut ipc_connection) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle, as the header asks.
        unsafe { *sending(connection)?.writing() = Writing::Nothing };
        Ok(())
    })
}

/// Detaches the open loan, so that other messages can be sent, and other loans made, while it is written. Its memory stays where it is.
///
/// loan: where the handle goes; NULL on failure. It is ours until ipc_loan_send or ipc_loan_drop, however long the connection lives.
/// Returns IPC_OK; IPC_BUSY if no loan is open; IPC_NO_LANE if its memory is not in the arena (mode IPC_MODE_KERNEL, or more than the
/// arena ever holds), and then it stays open; IPC_INVALID; IPC_CLOSED. Thread: the sending half's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_loan_detach(connection: *mut ipc_connection, loan: *mut *mut ipc_loan) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle and pointer, as the header asks.
        let (target, writing) = unsafe { (out(loan, "loan")?, sending(connection)?.writing()) };
        *target = std::ptr::null_mut();
        if !matches!(writing, Writing::Loan(_)) {
            return Err(Failure::Busy("no loan is open"));
        }
        let Writing::Loan(open) = std::mem::replace(writing, Writing::Nothing) else { return Ok(()) };
        match open.detach() {
            Ok(detached) => *target = LOANS.hand_out(UnsafeCell::new(detached)),
            Err(open) => {
                *writing = Writing::Loan(open);
                return Err(Failure::NotInArena);
            }
        }
        Ok(())
    })
}

/// The memory of a detached loan: where to write, and in len, if not NULL, how many bytes there are. NULL if the handle is NULL or closed.
///
/// Thread: the loan's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_loan_data(loan: *mut ipc_loan, len: *mut usize) -> *mut c_void {
    let mut start = std::ptr::null_mut();
    boundary(|| {
        // SAFETY: the caller's handle and pointer; one thread at a time.
        unsafe {
            let loan = &mut *LOANS.get(loan)?.get();
            start = loan.as_mut_ptr().cast();
            out_if(len, loan.len());
        }
        Ok(())
    });
    start
}

/// Sends a detached loan, as a message of len bytes, on the connection that lent it. If it is sent the handle is closed; if not it stays.
///
/// len: at most what was lent. timeout_ns and results as for ipc_send; IPC_NO_LANE if another connection lent it.
/// Thread: the sending half's, and the loan's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_loan_send(
    connection: *mut ipc_connection,
    loan: *mut ipc_loan,
    len: usize,
    timeout_ns: i64,
) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handles, as the header asks; one thread at a time.
        let (sender, lent) = unsafe { (idle(connection)?, (&*LOANS.get(loan)?.get()).len()) };
        if len > lent {
            return Err(Failure::invalid("len", len, &format!("0 to {lent}, what was lent")));
        }
        let mut result = Ok(());
        let send = |detached: UnsafeCell<DetachedLoan>| {
            let mut detached = detached.into_inner();
            detached.set_len(len);
            let sent = match Patience::of(timeout_ns) {
                Patience::Endless => sender.send_loan(detached),
                Patience::None => sender.try_send_loan(detached),
                Patience::Until(timeout) => sender.send_loan_timeout(detached, timeout),
            };
            let Unsent { mut loan, error } = sent.err()?;
            result = Err(error.into());
            loan.set_len(lent);
            Some(UnsafeCell::new(loan))
        };
        // SAFETY: as above.
        unsafe { LOANS.use_up(loan, send) }?;
        result
    })
}

/// Gives a detached loan back unsent, and closes its handle.
///
/// Returns IPC_OK; IPC_INVALID if it is NULL; IPC_CLOSED if it was sent or dropped before. Thread: the loan's. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ipc_loan_drop(loan: *mut ipc_loan) -> ipc_result {
    boundary(|| {
        // SAFETY: the caller's handle.
        unsafe { LOANS.close(loan) }
    })
}
