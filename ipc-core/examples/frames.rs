//! Shows what moves before a camera. `c-examples/frames.cpp` is the camera: it draws each frame into shared memory, and
//! this program looks at it there, and at the one before, which it keeps. Nobody copies a pixel.
//!
//!     cargo run --release -p ipc-core --example frames -- camera

use ipc_core::{Held, ListenOptions, PayloadType, RecvError, Trusted};
use zerocopy::{FromBytes, Immutable, KnownLayout};

const WIDTH: usize = 640;
const HEIGHT: usize = 480;

/// As in `c-examples/frames.cpp`.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Frame {
    number: u64,
    width: u32,
    height: u32,
    /// Red, green, blue and nothing.
    pixels: [[[u8; 4]; WIDTH]; HEIGHT],
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(name) = std::env::args().nth(1) else {
        return Err("usage: frames NAME".into());
    };
    // Both sides say what they mean by a frame; one that means something else is refused when it connects.
    let frame = PayloadType::named("example/frame", size_of::<Frame>() as u64, align_of::<Frame>() as u64);
    let mut listener = ListenOptions::new().payload_type(frame.ok_or("no alignment")?).bind(name)?;
    // SAFETY: the camera is a program of ours, which writes to no frame that it has sent.
    let mut camera = unsafe { listener.accept()?.trust_peer() };
    let mut previous: Option<Held<Trusted>> = None;
    loop {
        let message = match camera.recv() {
            // Its memory is ours until it is dropped, however many others come meanwhile.
            Ok(message) => message.hold(),
            Err(RecvError::Disconnected { closed: true, .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let frame = in_place(&message)?;
        if let Some(previous) = &previous {
            let before = in_place(previous)?;
            let pairs = frame.pixels.as_flattened().iter().zip(before.pixels.as_flattened());
            let moved = pairs.filter(|(now, before)| now != before).count();
            println!("frame {}, in {}: {moved} pixels moved", frame.number, message.lane());
        }
        previous = Some(message);
    }
}

fn in_place(bytes: &[u8]) -> Result<&Frame, String> {
    let frame = Frame::ref_from_bytes(bytes).map_err(|error| format!("not a frame: {error}"))?;
    if (frame.width as usize, frame.height as usize) != (WIDTH, HEIGHT) {
        return Err(format!("a frame of {} x {}, not of {WIDTH} x {HEIGHT}", frame.width, frame.height));
    }
    Ok(frame)
}
