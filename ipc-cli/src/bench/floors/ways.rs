//! The ways that `ipc bench floors` measures at each size.
//!
//! Promise: every way that was fastest at some size on the machines measured so far, and its neighbours. Refusal: no
//! search; forms that lost everywhere are left out.

use super::super::floor::Copier;
use super::super::floor::copy_through::{self, Shape};
use super::super::floor::in_place::{self, Reader, Rotation, Source};
use super::super::floor::socket::{self, Form};
use super::{Args, Candidate, Group};

/// Blocks in rotation.
const BLOCKS: [usize; 4] = [1, 2, 4, 8];

/// The smallest message that is copied through a buffer; smaller ones are the ring's.
const SMALLEST_COPY: usize = 4 << 10;

/// The largest message for which copiers are mixed; above it, copies by the line lose to those by the page.
const LARGEST_MIXED: usize = 64 << 10;

/// Copied in and copied out, there and back: sockets, and bare shared memory from [`SMALLEST_COPY`] up.
pub(super) fn copied(args: &Args, size: usize) -> Group {
    let trips = args.repetitions(4000.0 + size as f64 / 10.0);
    let mut candidates: Vec<Candidate> = forms(size)
        .into_iter()
        .map(|form| Candidate {
            name: form.to_string(),
            peer: true,
            measure: Box::new(move |duo| socket::round_trip(duo, form, size, trips)),
        })
        .collect();
    let trips = args.repetitions(300.0 + size as f64 / 20.0);
    let shapes = if size >= SMALLEST_COPY { shapes(size) } else { Vec::new() };
    candidates.extend(shapes.into_iter().map(|(name, shape)| Candidate {
        name: format!("{name}: {shape}"),
        peer: false,
        measure: Box::new(move |duo| copy_through::round_trip(duo, shape, size, trips)),
    }));
    Group { case: "copied round trip", size, candidates }
}

/// The ways to use a socket, without those whose pieces would hold more than the message.
pub(in super::super) fn forms(size: usize) -> Vec<Form> {
    let form = |packets, piece, raised| [false, true].map(|polling| Form { packets, piece, raised, polling });
    let mut forms = Vec::new();
    for raised in [false, true] {
        forms.extend(form(false, usize::MAX, raised));
        forms.extend(form(false, 32 << 10, raised));
        // A packet must fit the buffer, which holds about 208 KiB by default.
        let largest: &[usize] = if raised { &[256 << 10, 512 << 10, 1 << 20] } else { &[128 << 10] };
        forms.extend(largest.iter().flat_map(|piece| form(true, *piece, raised)));
    }
    let smallest_packet = |form: &Form| form.piece == if form.raised { 256 << 10 } else { 128 << 10 };
    forms.retain(|form| form.piece == usize::MAX || form.piece <= size || (form.packets && smallest_packet(form)));
    forms
}

/// The ways to copy a message of `size` bytes through shared memory.
pub(in super::super) fn shapes(size: usize) -> Vec<(&'static str, Shape)> {
    let same = |copier| (copier, copier);
    let plain = same(Copier::Library);
    let mut copiers: Vec<(Copier, Copier)> = Copier::available().into_iter().map(same).collect();
    if size > LARGEST_MIXED {
        copiers.retain(|(copier, _)| *copier != Copier::Wide);
    } else if copiers.len() == 3 {
        copiers.push((Copier::Microcode, Copier::Wide));
    }
    let shape = |window, chunk, common, (copy_in, copy_out)| Shape { window, chunk, common, copy_in, copy_out };
    let mut shapes = Vec::new();
    for common in [true, false] {
        shapes.extend(copiers.iter().map(|pair| ("whole", shape(size, size, common, *pair))));
        shapes.extend(BLOCKS[1..].iter().map(|blocks| ("whole, rotating", shape(size * blocks, size, common, plain))));
    }
    let chunks: &[usize] = match size {
        0..=0x4000 => &[1 << 10, 2 << 10, 4 << 10, 8 << 10],
        0x4001..=0x1_0000 => &[4 << 10, 8 << 10, 16 << 10, 32 << 10],
        _ => &[8 << 10, 16 << 10, 32 << 10, 64 << 10],
    };
    for chunk in chunks.iter().copied().filter(|chunk| *chunk < size) {
        for pair in copiers.iter().copied() {
            shapes.extend([true, false].map(|common| ("cut-through", shape(size, chunk, common, pair))));
            let windows = [64, 128, 256, 512, 1024].map(|kib| kib << 10).into_iter();
            let windows = windows.filter(|window| *window < size && *window >= 4 * chunk);
            shapes.extend(windows.map(|window| ("window", shape(window, chunk, false, pair))));
        }
        shapes.push(("cut-through, rotating", shape(size * 4, chunk, false, plain)));
    }
    shapes
}

/// Written in place and read in place: in turns, or as a stream.
pub(super) fn in_place(args: &Args, size: usize, stream: bool) -> Group {
    let messages = args.repetitions(300.0 + size as f64 / 40.0);
    let mut candidates = Vec::new();
    for (source, verb) in [(Source::Made, "made"), (Source::Copied, "copied in")] {
        for blocks in BLOCKS.into_iter().filter(|blocks| !stream || *blocks > 1) {
            let blocks = blocks as u64;
            let rotation = Rotation { blocks, ahead: if stream { blocks } else { 1 }, reader: Reader::Writes };
            candidates.push(Candidate {
                name: format!("{verb}, {blocks} blocks"),
                peer: source == Source::Made,
                measure: Box::new(move |duo| in_place::write_and_read(duo, source, rotation, size, messages)),
            });
        }
    }
    Group { case: if stream { "in place, stream" } else { "in place, in turns" }, size, candidates }
}

#[cfg(test)]
mod tests {
    use super::super::super::process::Duo;
    use super::*;

    #[test]
    fn every_listed_way_fits_its_message() {
        let Ok(duo) = Duo::new() else { return };
        for size in [4 << 10, 16 << 10, 64 << 10, 256 << 10] {
            for (name, shape) in shapes(size) {
                let time = copy_through::round_trip(&duo, shape, size, 2);
                assert!(time.is_ok(), "{name}: {shape}: {time:?}");
            }
            for form in forms(size) {
                let time = socket::round_trip(&duo, form, size, 2);
                assert!(time.is_ok(), "{form}: {time:?}");
            }
        }
    }
}
