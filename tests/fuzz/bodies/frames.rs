//! The framer against a second, simpler one: any cut of the stream, any point at which its owner stops to keep the rest,
//! and any time between must give the same packets and the same fault.

use mosquitto::wire::{DecodeError, FrameLimits, Framed, Framer, PacketType, ProtocolVersion};

use super::{Random, byte};

/// Packets and the fault that ended them.
type Frames = (Vec<(u8, Vec<u8>)>, Option<DecodeError>);

/// First byte: version and whether CONNECT is outstanding. Second: largest packet. Then 4 bytes of seed and the stream.
pub fn frames(mut data: &[u8]) {
    let choice = byte(&mut data);
    let version = match choice % 3 {
        0 => ProtocolVersion::V5,
        1 => ProtocolVersion::V311,
        _ => ProtocolVersion::V31,
    };
    let connected = choice & 0x40 != 0;
    let max_packet_size = [0, 20, 130, 2_000_000][usize::from(byte(&mut data) % 4)];
    let seed = (0..4).fold(1, |seed, _| seed << 8 | u64::from(byte(&mut data)));
    let limits = |frames: usize| FrameLimits {
        version: (connected || frames > 0).then_some(version),
        max_packet_size,
        strict: false,
    };

    let (want, rest) = by_hand(data, &limits);
    let mut whole = (Vec::new(), None);
    let mut framer = Framer::new();
    take(&mut framer, data, usize::MAX, &limits, 0, &mut whole);
    assert!(whole == want, "in one piece");
    assert!(want.1.is_some() || framer.is_idle() == rest.is_empty(), "idle exactly when nothing is left");

    let mut random = Random(seed);
    let got = in_pieces(data, &limits, &mut random);
    assert!(got == want, "in pieces");
}

fn in_pieces(data: &[u8], limits: &impl Fn(usize) -> FrameLimits, random: &mut Random) -> Frames {
    let mut framer = Framer::new();
    let mut got = (Vec::new(), None);
    let mut now = 1;
    let mut rest = data;
    let most = [1, 3, 40, 1000][random.below(4)];
    while got.1.is_none() && (!rest.is_empty() || framer.has_kept()) {
        now += [0, 1, 29_000, 30_000][random.below(4)];
        let due = framer.deadline().is_some_and(|deadline| deadline <= now);
        assert!(due || !framer.stalled(now), "stalled before its deadline");
        let budget = [0, 1, 2, usize::MAX][random.below(4)];
        if framer.has_kept() && random.below(4) > 0 {
            take(&mut framer, &[], budget, limits, now, &mut got);
            continue;
        }
        let (piece, after) = rest.split_at(random.below(most + 1).min(rest.len()));
        rest = after;
        take(&mut framer, piece, budget, limits, now, &mut got);
    }
    got
}

/// Takes at most `budget` packets and keeps what is left.
fn take(
    framer: &mut Framer,
    mut input: &[u8],
    budget: usize,
    limits: &impl Fn(usize) -> FrameLimits,
    now: u64,
    to: &mut Frames,
) {
    for _ in 0..budget {
        match framer.next(&mut input, &limits(to.0.len()), now) {
            Framed::NeedMore => {
                assert!(input.is_empty(), "input was left");
                assert!(!framer.has_kept());
                assert_eq!(framer.is_idle(), framer.deadline().is_none(), "an incomplete packet has a deadline");
                return;
            }
            Framed::Bad(error) => {
                to.1 = Some(error);
                return;
            }
            Framed::Frame { first, body } => to.0.push((first, body.to_vec())),
        }
    }
    framer.keep(input);
}

/// The same from the specification, over the whole stream at once; also what is left of it.
fn by_hand<'a>(mut data: &'a [u8], limits: &impl Fn(usize) -> FrameLimits) -> (Frames, &'a [u8]) {
    let mut frames = Vec::new();
    loop {
        match one(data, &limits(frames.len())) {
            Err(error) => return ((frames, Some(error)), data),
            Ok(None) => return ((frames, None), data),
            Ok(Some((head, len))) => {
                frames.push((data[0], data[head..head + len].to_vec()));
                data = &data[head + len..];
            }
        }
    }
}

/// Lengths of the head and the body of the packet at the start.
fn one(data: &[u8], limits: &FrameLimits) -> Result<Option<(usize, usize)>, DecodeError> {
    let Some(&first) = data.first() else { return Ok(None) };
    let kind = first >> 4;
    if limits.version.is_none() && kind != 1 {
        return Err(DecodeError::FirstNotConnect(first));
    }
    let Some(packet) = PacketType::of(first) else { return Err(DecodeError::Reserved) };
    let digits = data[1..].iter().take(4).take_while(|b| **b >= 0x80).count();
    if digits == 4 {
        return Err(DecodeError::RemainingLength);
    }
    let Some(field) = data.get(1..digits + 2) else { return Ok(None) };
    let body = field.iter().rev().fold(0, |n, b| n * 128 + usize::from(b & 0x7F));
    let exact = |len| if body == len { usize::MAX } else { usize::MIN };
    let v5 = limits.version == Some(ProtocolVersion::V5);
    let fixed = match kind {
        4..=7 if !v5 => exact(2),
        14 if !v5 => exact(0),
        12 | 13 => exact(0),
        _ => usize::MAX,
    };
    if fixed == usize::MIN {
        return Err(DecodeError::Length(packet));
    }
    let max = limits.max_packet_size as usize;
    if max > 0 && body + 1 > max {
        return Err(DecodeError::PacketTooLarge);
    }
    let most = match kind {
        1 => 100_000,
        4..=7 | 14 if v5 => 10_000,
        8 | 10 | 15 if v5 => 100_000,
        _ => usize::MAX,
    };
    if body > most {
        return Err(DecodeError::TypeTooLarge(packet));
    }
    let head = digits + 2;
    Ok((data.len() - head >= body).then_some((head, body)))
}
