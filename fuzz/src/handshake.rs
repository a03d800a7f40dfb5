//! The target `handshake`: any packet as a hello and as a welcome.
//!
//! Promise: what is accepted comes back from its own encoding unchanged, and is within the limits that the rest of a connection
//! relies on.

use arbitrary::{Arbitrary, Unstructured};
use ipc_core::fuzzing::{Hello, MAX_PACKET, Welcome};
use ipc_core::layout::{Geometry, LAYOUT_HASH, LAYOUT_VERSION, is_capacity};
use ipc_core::{Malformed, Mode, PayloadType, Refusal};

/// A number in a packet: often one that passes.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    Right,
    Shift(u8),
    Any(u64),
}

impl Number {
    fn or(self, right: u64) -> u64 {
        match self {
            Self::Right => right,
            Self::Shift(shift) => 1 << (shift % 64),
            Self::Any(value) => value,
        }
    }
}

/// What a side says of itself.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Terms {
    mode: u8,
    credit: [Number; 3],
    typed: bool,
}

impl Terms {
    fn parts(self) -> (Mode, [u64; 3], bool) {
        let mode = [Mode::Kernel, Mode::Hybrid, Mode::Shared, Mode::Auto][usize::from(self.mode) % 4];
        (mode, self.credit.map(|credit| credit.or(1 << 20)), self.typed)
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Packet {
    /// The input itself.
    Raw,
    Hello {
        versions: [Number; 2],
        hash: Number,
        membarrier: bool,
        capacities: [Option<Number>; 2],
        terms: Terms,
    },
    Welcome {
        membarrier: bool,
        size: Number,
        capacities: [Number; 2],
        terms: Terms,
    },
    Refusal {
        code: u8,
        numbers: [u64; 2],
    },
}

impl Packet {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Raw => Vec::new(),
            Self::Hello { versions, hash, membarrier, capacities, terms } => {
                let versions = versions.map(|version| version.or(LAYOUT_VERSION.into()) as u16);
                let capacities = capacities.map(|wish| wish.map(|capacity| capacity.or(1 << 16)));
                Hello::new(versions, hash.or(LAYOUT_HASH), membarrier, capacities, terms.parts()).encode()
            }
            Self::Welcome { membarrier, size, capacities, terms } => {
                let [to_server_capacity, to_client_capacity] = capacities.map(|capacity| capacity.or(1 << 16));
                let geometry = Geometry { to_server_capacity, to_client_capacity };
                Welcome::encode(Ok(Welcome::new(membarrier, size.or(1 << 20), geometry, terms.parts())))
            }
            Self::Refusal { code, numbers } => Welcome::encode(Err(refusal(code, numbers))),
        }
    }
}

fn refusal(code: u8, [first, second]: [u64; 2]) -> Refusal {
    match code % 9 {
        0 => Refusal::Version { server: first, client: second },
        1 => Refusal::LayoutHash { server: first, client: second },
        2 => Refusal::Connections { open: first, limit: second },
        3 => Refusal::Memory { needed: first, free: second },
        4 => Refusal::Credentials { uid: first, server_uid: second },
        5 => Refusal::Malformed,
        6 => Refusal::PayloadLayout { server: first, client: second },
        7 => Refusal::PayloadName { server: first, client: second },
        _ => Refusal::Resources { errno: first },
    }
}

/// What happens to a packet on its way.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Damage {
    Byte { at: u8, value: u8 },
    Bit { at: u8, bit: u8 },
    Cut(u8),
    Append(u8),
}

/// Runs one input.
pub fn run(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let _ = try_run(&mut input);
}

fn try_run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let packet = Packet::arbitrary(input)?;
    let mut bytes = packet.bytes();
    if matches!(packet, Packet::Raw) {
        bytes.extend(input.bytes(input.len().min(MAX_PACKET))?);
    } else {
        for _ in 0..input.int_in_range(0..=4)? {
            damage(&mut bytes, Damage::arbitrary(input)?);
        }
    }
    receive(&bytes);
    Ok(())
}

fn damage(bytes: &mut Vec<u8>, damage: Damage) {
    let len = bytes.len().max(1);
    match damage {
        Damage::Byte { at, value } => bytes.get_mut(usize::from(at) % len).into_iter().for_each(|b| *b = value),
        Damage::Bit { at, bit } => {
            bytes.get_mut(usize::from(at) % len).into_iter().for_each(|b| *b ^= 1 << (bit % 8));
        }
        Damage::Cut(at) => bytes.truncate(usize::from(at) % len),
        Damage::Append(more) => bytes.extend(std::iter::repeat_n(more, more.into())),
    }
}

fn receive(bytes: &[u8]) {
    match Hello::decode(bytes) {
        Ok(hello) => {
            let again = hello.encode();
            assert!(again.len() <= MAX_PACKET && again.len() <= bytes.len());
            assert_eq!(Hello::decode(&again), Ok(hello));
            assert!(hello.capacities().into_iter().flatten().all(is_capacity));
            let ([oldest, newest], hash) = hello.layout();
            assert!(oldest <= newest);
            let agreed = (oldest..=newest).contains(&LAYOUT_VERSION) && hash == LAYOUT_HASH;
            assert_eq!(hello.check_layout().is_ok(), agreed);
            assert!(hello.check_layout().err().is_none_or(|refusal| !refusal.to_string().is_empty()));
            let ours = PayloadType::of::<u64>();
            let agreed = hello.payload().is_none_or(|theirs| theirs == ours);
            assert_eq!(hello.check_payload(Some(ours)).is_ok(), agreed);
            assert!(hello.check_payload(Some(ours)).err().is_none_or(|refusal| !refusal.to_string().is_empty()));
            assert!(hello.payload().is_none_or(|theirs| theirs.align().is_power_of_two()));
        }
        Err(malformed) => named(malformed, "hello"),
    }
    match Welcome::decode(bytes) {
        Ok(answer) => {
            let again = Welcome::encode(answer);
            assert!(again.len() <= MAX_PACKET && again.len() <= bytes.len());
            assert_eq!(Welcome::decode(&again), Ok(answer));
            match answer {
                Ok(welcome) => {
                    let Geometry { to_server_capacity, to_client_capacity } = welcome.geometry();
                    assert!(is_capacity(to_server_capacity) && is_capacity(to_client_capacity));
                    // The client computes it from what it was told.
                    assert!(welcome.geometry().segment_size() > to_server_capacity + to_client_capacity);
                }
                Err(refusal) => assert!(!refusal.to_string().is_empty()),
            }
        }
        Err(malformed) => named(malformed, "welcome"),
    }
}

fn named(malformed: Malformed, packet: &str) {
    assert_eq!(malformed.packet, packet);
    assert!(malformed.to_string().contains(malformed.field));
    let in_range = (malformed.min..=malformed.max).contains(&malformed.value);
    let of_a_kind = malformed.field.ends_with("(a power of two)");
    assert!(!in_range || of_a_kind, "{malformed}: but that is allowed");
}
