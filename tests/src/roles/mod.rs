//! What a second process can do: one role a name, with its settings as `key=value` arguments.
//!
//! A role reports with lines on its output, and with its exit status: anything it did not expect is a panic, status 101.

mod arrest;
mod coalesce;
mod echo;
mod hostile;
mod keeper;
mod kill;
mod lanes_kill;
mod mix;
mod quiet;
mod starve;
mod stress;

pub use keeper::{LIMITED, shortage};
pub use mix::{LONGEST, mixed_both_ways};
pub use quiet::{RESULTS, STOP, TURNS};
pub use stress::{StrategyName, both_ways, mode_named, pump_in, pump_out};

use ipc_core::{ConnectOptions, Connection, Credit, ListenOptions, Mode};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Counts one allocation; for the allocator of the peer program.
pub fn count_allocation() {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
}

/// The settings of a role.
#[derive(Debug)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    fn new(arguments: impl Iterator<Item = String>) -> Self {
        let pair = |argument: String| {
            let (key, value) = argument.split_once('=').expect("arguments are key=value");
            (key.to_owned(), value.to_owned())
        };
        Self(arguments.map(pair).collect())
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).unwrap_or_else(|| panic!("the setting {key} is missing"))
    }

    fn number<T: FromStr>(&self, key: &str, otherwise: T) -> T {
        match self.0.get(key) {
            Some(text) => text.parse().unwrap_or_else(|_| panic!("{key}={text} is out of range")),
            None => otherwise,
        }
    }

    /// What this side accepts: `messages`, `arena` and `message`.
    fn credit(&self) -> Credit {
        let mut credit = Credit::default();
        credit.messages = self.number("messages", credit.messages);
        credit.arena = self.number("arena", credit.arena);
        credit.message = self.number("message", credit.message);
        credit
    }

    fn listen_options(&self) -> ListenOptions {
        let strategy = self.number("strategy", StrategyName::Adaptive);
        let capacity = self.number("capacity", 256 << 10);
        ListenOptions::new()
            .capacity(capacity)
            .credit(self.credit())
            .wait_strategy(strategy.strategy())
            .membarrier(self.number("membarrier", true))
            .mode(self.mode())
    }

    fn connect_options(&self) -> ConnectOptions {
        let strategy = self.number("strategy", StrategyName::Adaptive);
        ConnectOptions::new()
            .wait_for_listener(true)
            .timeout(std::time::Duration::from_secs(20))
            .credit(self.credit())
            .wait_strategy(strategy.strategy())
            .membarrier(self.number("membarrier", true))
            .mode(self.mode())
    }

    fn mode(&self) -> Mode {
        self.0.get("mode").map_or(Mode::default(), |name| mode_named(name).expect("a mode"))
    }

    /// The connection of this role: as a server if `listen=true`, as a client else.
    fn connection(&self) -> Connection {
        let path = self.text("path");
        if self.number("listen", false) {
            let mut listener = self.listen_options().bind(path).expect("a free path");
            say("listening");
            listener.accept_timeout(std::time::Duration::from_secs(20)).expect("a client")
        } else {
            self.connect_options().connect(path).expect("a server")
        }
    }
}

/// Reports a line to the test.
fn say(line: impl Display) {
    println!("{line}");
}

/// Waits for a line from the test.
fn hear() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("the test speaks");
    line.trim().to_owned()
}

/// Plays the role that the command line names.
///
/// # Panics
/// If something happens that the role does not expect.
pub fn main() {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next().expect("the first argument names the role");
    let settings = Settings::new(arguments);
    // SAFETY: both calls take integers only. The process ends with the test that started it, or after a while.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::alarm(settings.number("alarm", 120));
    }
    match role.as_str() {
        "mix" => mix::play(&settings),
        "stress" => stress::play(&settings),
        "echo" => echo::play(&settings),
        "echo-into" => echo::play_into(&settings),
        "ask" => echo::ask(&settings),
        "send" => echo::send(&settings),
        "receive" => echo::receive(&settings),
        "hold" => echo::hold(&settings),
        "fork" => echo::fork(&settings),
        "kill-sender" => kill::sender(&settings),
        "kill-receiver" => kill::receiver(&settings),
        "survive-sender" => kill::survive_sender(&settings),
        "survive-receiver" => kill::survive_receiver(&settings),
        "large" => arrest::large(&settings),
        "arrest" => arrest::arrest(&settings),
        "interrupt" => arrest::interrupt(&settings),
        "arena-steady" => arrest::steady(&settings),
        "arena-fork" => arrest::fork(&settings),
        "keep" => keeper::keep(&settings),
        "limited" => keeper::limited(&settings),
        "lanes-kill-sender" => lanes_kill::sender(&settings),
        "lanes-kill-receiver" => lanes_kill::receiver(&settings),
        "lanes-survive-sender" => lanes_kill::survive_sender(&settings),
        "lanes-survive-receiver" => lanes_kill::survive_receiver(&settings),
        "victim" => hostile::victim(&settings),
        "blocked" => quiet::blocked(&settings),
        "steady" => quiet::steady(&settings),
        "coalesce" => coalesce::play(&settings),
        "starve" => starve::play(&settings),
        other => panic!("there is no role {other}"),
    }
}
