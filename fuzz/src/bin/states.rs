//! Runs a target over many mutated states without a fuzzer: the same states every time, so that a number names one.
//!
//! ```text
//! states TARGET          so many states from the first; IPC_FUZZ_STATES and IPC_FUZZ_FIRST say how many and which
//! states TARGET FILE...  the inputs in these files, such as `cargo fuzz` leaves when it finds something
//! ```
//!
//! Whatever ends the process (a panic, AddressSanitizer, a state that takes too long), the number of the state is told.

use ipc_fuzz::{Random, attach, handshake, lanes, segment};
use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A target: its name, what runs one input, how many states are run unless told otherwise, and how long an input is.
type Target = (&'static str, fn(&[u8]), u64, u64);

const TARGETS: [Target; 4] = [
    ("segment", segment::run, 1_000_000, 640),
    ("handshake", handshake::run, 100_000, 320),
    ("attach", attach::run, 20_000, 640),
    ("lanes", lanes::run, 20_000, 960),
];

/// Far longer than any state takes: microseconds in an optimised build.
const PATIENCE: Duration = Duration::from_secs(10);

/// The state that runs at this moment.
static RUNNING: AtomicU64 = AtomicU64::new(0);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("states: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let names = TARGETS.map(|target| target.0).join(", ");
    let [name, files @ ..] = arguments else {
        return Err(format!("a target is needed, one of: {names}").into());
    };
    let Some((name, target, states, longest)) = TARGETS.into_iter().find(|target| target.0 == name) else {
        return Err(format!("there is no target {name}, there are: {names}").into());
    };
    for file in files {
        println!("{name}: {file}");
        target(&std::fs::read(file).map_err(|error| format!("{file}: {error}"))?);
    }
    if files.is_empty() {
        let (first, states) = (number("IPC_FUZZ_FIRST", 0)?, number("IPC_FUZZ_STATES", states)?);
        let begun = Instant::now();
        run_states(target, longest, first..first.saturating_add(states));
        println!("{name}: {states} states in {:.1} s, nothing found", begun.elapsed().as_secs_f64());
    }
    Ok(())
}

fn number(variable: &str, default: u64) -> Result<u64, Box<dyn Error>> {
    match std::env::var(variable) {
        Ok(text) => text.parse().map_err(|error| format!("{variable} is {text:?}: {error}").into()),
        Err(_) => Ok(default),
    }
}

fn run_states(target: fn(&[u8]), longest: u64, states: std::ops::Range<u64>) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        hook(panic);
        tell_state();
    }));
    std::thread::spawn(watch);
    let mut input = Vec::new();
    for state in states {
        RUNNING.store(state, Ordering::Relaxed);
        let mut random = Random::new(state);
        // One in 32 is long enough to fill all memory byte for byte.
        let longest = if random.below(32) == 0 { 16 * longest } else { longest };
        let len = 16 + random.below(longest);
        input.clear();
        input.extend((0..len.div_ceil(8)).flat_map(|_| random.next().to_ne_bytes()));
        target(&input);
    }
}

/// Ends the process if one state takes too long.
fn watch() {
    let mut before = None;
    loop {
        std::thread::sleep(PATIENCE);
        let now = Some(RUNNING.load(Ordering::Relaxed));
        if now == before {
            eprintln!("a state takes longer than {PATIENCE:?}");
            tell_state();
            std::process::abort();
        }
        before = now;
    }
}

fn tell_state() {
    let state = RUNNING.load(Ordering::Relaxed);
    eprintln!("it was state {state}; again: IPC_FUZZ_FIRST={state} IPC_FUZZ_STATES=1");
}

/// AddressSanitizer calls it before it ends the process.
// SAFETY: the name and signature are AddressSanitizer's; nothing else in the process has this name.
#[unsafe(no_mangle)]
extern "C" fn __asan_on_error() {
    tell_state();
}
