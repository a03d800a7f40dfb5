//! `ipc ls`: the connections that live at the moment, found through the descriptors of running processes.
//!
//! Promise: only reads, and disturbs nobody; a descriptor that merely looks like a segment is checked before it is believed.
//! Refusal: processes that this user may not look into are not seen; what is shown is a moment that has passed.

mod find;
mod segment;
mod table;

use crate::failure::Failure;
use serde::Serialize;
use std::io::Write;

/// Lists the connections that live at the moment.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
    /// Look into other users' processes too, as far as that is allowed
    #[arg(long)]
    all: bool,
}

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Listing {
    /// One for each connection, by name.
    segments: Vec<Row>,
    /// Processes that could not be looked into.
    skipped_processes: u64,
}

/// One connection.
#[derive(Debug, Serialize)]
struct Row {
    /// Name of the listener.
    name: String,
    /// Who holds it, usually a server and a client.
    processes: Vec<Process>,
    /// Bytes of shared memory.
    size: u64,
    /// Version of the memory's layout; the rings of another one than ours cannot be read.
    layout_version: u16,
    /// From client to server.
    to_server: Option<Ring>,
    /// From server to client.
    to_client: Option<Ring>,
}

/// A process that holds a segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Process {
    pid: u32,
    command: String,
}

/// One direction.
#[derive(Debug, Serialize)]
struct Ring {
    /// Bytes.
    capacity: u64,
    /// Bytes published and not consumed.
    used: u64,
    /// The same in percent of the capacity.
    fill_percent: f64,
    sent: u64,
    received: u64,
    producer_sleeps: bool,
    consumer_sleeps: bool,
}

/// Lists.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let listing = find::find(args.all)?;
    let text = if args.json {
        serde_json::to_string_pretty(&listing)
            .map_err(|error| Failure::runtime(format!("writing JSON failed: {error}")))?
    } else if listing.segments.is_empty() {
        let whose = if args.all { "" } else { " of this user" };
        let _ = writeln!(std::io::stderr().lock(), "no connection{whose} lives at the moment");
        return Ok(());
    } else {
        table::Table(&listing.segments).to_string()
    };
    let written = writeln!(std::io::stdout().lock(), "{}", text.trim_end());
    written.map_err(|error| Failure::writing("standard output", error))
}
