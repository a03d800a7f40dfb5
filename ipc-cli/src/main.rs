//! The `ipc` command: a demonstration, transfers between processes, and a look at live connections.
//!
//! Promise: every subcommand ends in one place, which prints one sentence for a failure and exits with the code
//! that `--help` documents. Refusal: nothing is done here; parsing belongs to each subcommand's `Args`, meaning
//! to its `run`.

mod bench;
mod calibrate;
mod crossing;
mod demo;
mod failure;
mod ls;
mod plot;
mod progress;
mod transfer;

use clap::{Parser, Subcommand};
use failure::{EXIT_CODES, Failure};
use std::io::Write;
use std::process::ExitCode;

/// Messages between processes of one machine.
#[derive(Debug, Parser)]
#[command(name = "ipc", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Shows two processes exchanging messages, checks every byte, and says how fast it was
    #[command(after_help = EXIT_CODES)]
    Demo(demo::Args),
    /// Measures the library beside the raw speed of this machine
    #[command(after_help = EXIT_CODES)]
    Bench(bench::Args),
    /// Measures what each way of a message costs on this machine, and keeps it for all processes of this user
    ///
    /// Routers choose by these costs. Without them a process measures roughly by itself once that pays, or uses costs that are
    /// compiled in; the environment variable IPC_CALIBRATION (off, defaults, or the path of a file) says otherwise.
    #[command(after_help = EXIT_CODES)]
    Calibrate(calibrate::Args),
    /// The other process of the demonstration
    #[command(hide = true)]
    DemoPeer(demo::peer::Args),
    /// Sends a file or standard input to `ipc recv`
    ///
    /// Exits with 0 once the receiver has written everything. Each side may have a framing of its own: lines that are sent
    /// can be received as frames.
    #[command(after_help = EXIT_CODES)]
    Send(transfer::send::Args),
    /// Receives what `ipc send` sends, into a file or standard output
    ///
    /// Listens under the name, serves one sender, and exits with 0 if that one finished.
    #[command(after_help = EXIT_CODES)]
    Recv(transfer::recv::Args),
    /// Lists the connections that live at the moment
    #[command(after_help = EXIT_CODES)]
    Ls(ls::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // There is nobody left to tell if this fails too.
            let _ = writeln!(std::io::stderr().lock(), "ipc: {failure}");
            ExitCode::from(failure.code() as u8)
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => demo::run(args),
        Command::Bench(args) => bench::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::DemoPeer(args) => demo::peer::run(args),
        Command::Send(args) => transfer::send::run(args),
        Command::Recv(args) => transfer::recv::run(args),
        Command::Ls(args) => ls::run(args),
    }
}
