//! An echo server that serves all its clients on one thread, and a client.
//!
//!     cargo run -p ipc-core --features tokio --example tokio_echo -- serve &
//!     cargo run -p ipc-core --features tokio --example tokio_echo -- hello world

use ipc_core::RecvError;
use ipc_core::tokio::{Connection, Listener, connect};

const NAME: &str = "tokio-echo";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    if words == ["serve"] { serve().await } else { ask(&words).await }
}

async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    let mut listener = Listener::bind(NAME)?;
    loop {
        let client = listener.accept().await?;
        tokio::spawn(async move {
            let process = client.peer().credentials().pid;
            match echo(client).await {
                Ok(answered) => println!("process {process:?}: {answered} messages"),
                Err(error) => eprintln!("process {process:?}: {error}"),
            }
        });
    }
}

/// Answers until the client goes, and says how many messages there were.
async fn echo(client: Connection) -> Result<u64, Box<dyn std::error::Error>> {
    let (mut sender, mut receiver) = client.split();
    loop {
        let message = match receiver.recv().await {
            // A copy, because the message itself, in shared memory, stays on this task's thread.
            Ok(message) => message.to_vec(),
            Err(RecvError::Disconnected { received, .. }) => return Ok(received),
            Err(error) => return Err(error.into()),
        };
        sender.send(&message).await?;
    }
}

async fn ask(words: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let mut server = connect(NAME).await?;
    for word in words {
        server.send(word.as_bytes()).await?;
        println!("{}", String::from_utf8_lossy(&server.recv().await?.to_vec()));
    }
    Ok(())
}
