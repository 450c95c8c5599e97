//! The bytes of a segment: how records are written, and how they are found again when some are damaged. Pure.
//!
//! A segment is a header (magic, format, time of creation) and records. A record is a marker, a length, a checksum over
//! length and body, and the body: its index in the segment, the time, the key, the payload. The marker lets reading go
//! on behind damage: a flipped byte costs the record that it hits.

/// The first bytes of a segment. What tells a later format is the ending of its file's name ([`super::files`]), not a byte
/// that a torn write may hit.
const MAGIC: [u8; 8] = *b"SWSPOOL\x01";
/// Magic and time of creation.
pub(super) const HEADER: usize = 16;
/// Begins a record. Not valid UTF-8, so that it is not met inside JSON.
const MARKER: [u8; 4] = [0xf5, 0xfa, 0xc3, 0x9d];
/// Marker, length, checksum.
const PREFIX: usize = 12;
/// Index, time and length of the key.
const FIXED: usize = 16;

/// The header of a segment that is made at `now`, in microseconds since 1970.
pub(super) fn header(now: i64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(&now.to_le_bytes());
    header
}

/// When the segment was made, if this is the beginning of one.
pub(super) fn created(bytes: &[u8]) -> Option<i64> {
    let (magic, time) = bytes.get(..HEADER)?.split_at(8);
    (magic == MAGIC).then(|| i64::from_le_bytes(time.try_into().unwrap_or_default()))
}

/// How many bytes a record takes.
pub(super) fn size(key: &[u8], payload: &[u8]) -> u64 {
    (PREFIX + FIXED + key.len() + payload.len()) as u64
}

/// Writes a record at the end of `out`.
pub(super) fn encode(out: &mut Vec<u8>, index: u32, now: i64, key: &[u8], payload: &[u8]) {
    let body = FIXED + key.len() + payload.len();
    let start = out.len();
    out.extend(MARKER);
    // A record is at most a few hundred kilobytes: settings and the engine see to that.
    out.extend((body as u32).to_le_bytes());
    out.extend([0; 4]);
    out.extend(index.to_le_bytes());
    out.extend(now.to_le_bytes());
    out.extend((key.len() as u32).to_le_bytes());
    out.extend(key);
    out.extend(payload);
    let sum = checksum(&out[start + 4..start + 8], &out[start + PREFIX..]);
    out[start + 8..start + PREFIX].copy_from_slice(&sum.to_le_bytes());
}

fn checksum(length: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(body);
    hasher.finalize()
}

/// A record that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) index: u32,
    pub(super) time: i64,
    pub(super) key: &'a [u8],
    pub(super) payload: &'a [u8],
}

/// Bytes in which no record was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) offset: usize,
    pub(super) bytes: usize,
}

/// The records of a segment, and the holes between and behind them.
pub(super) fn scan(bytes: &[u8]) -> (Vec<Found<'_>>, Vec<Hole>) {
    let (mut found, mut holes) = (Vec::new(), Vec::new());
    let mut at = if created(bytes).is_some() { HEADER } else { 0 };
    let mut hole = at;
    while at < bytes.len() {
        match record(&bytes[at..]) {
            Some((record, length)) => {
                if hole < at {
                    holes.push(Hole {
                        offset: hole,
                        bytes: at - hole,
                    });
                }
                found.push(record);
                at += length;
                hole = at;
            }
            None => at = next_marker(bytes, at + 1),
        }
    }
    if hole < bytes.len() {
        holes.push(Hole {
            offset: hole,
            bytes: bytes.len() - hole,
        });
    }
    (found, holes)
}

fn record(bytes: &[u8]) -> Option<(Found<'_>, usize)> {
    let prefix = bytes.get(..PREFIX)?;
    if prefix[..4] != MARKER {
        return None;
    }
    let length = number(&prefix[4..8]) as usize;
    let body = bytes.get(PREFIX..PREFIX.checked_add(length)?)?;
    if length < FIXED || checksum(&prefix[4..8], body) != number(&prefix[8..12]) {
        return None;
    }
    let key_length = number(&body[12..16]) as usize;
    let (key, payload) = body[FIXED..].split_at_checked(key_length)?;
    let found = Found {
        index: number(&body[..4]),
        time: i64::from_le_bytes(body[4..12].try_into().ok()?),
        key,
        payload,
    };
    Some((found, PREFIX + length))
}

fn number(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

/// Where the next marker begins, or the end.
fn next_marker(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    rest.windows(MARKER.len())
        .position(|window| window == MARKER)
        .map_or(bytes.len(), |at| from + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn segment(payloads: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = header(7).to_vec();
        for (n, payload) in payloads.iter().enumerate() {
            encode(&mut bytes, n as u32, 7, b"key", payload);
        }
        bytes
    }

    proptest! {
        #[test]
        fn what_is_written_is_found_and_a_flipped_byte_costs_one_record(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..20),
            place in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = segment(&payloads);
            let (found, holes) = scan(&bytes);
            prop_assert!(holes.is_empty() && created(&bytes) == Some(7));
            prop_assert!(found.iter().map(|it| it.payload.to_vec()).eq(payloads.iter().cloned()));

            let torn = &bytes[..HEADER + cut.index(bytes.len() - HEADER)];
            let (found, holes) = scan(torn);
            prop_assert!(found.iter().enumerate().all(|(n, it)| it.payload == payloads[n]));
            prop_assert!(holes.len() <= 1, "one hole, at the end");

            let place = HEADER + place.index(bytes.len() - HEADER);
            bytes[place] ^= 1 << bit;
            let (found, holes) = scan(&bytes);
            prop_assert_eq!(found.len(), payloads.len() - 1);
            prop_assert!(found.iter().all(|it| it.payload == payloads[it.index as usize]));
            prop_assert!(holes.iter().any(|hole| (hole.offset..hole.offset + hole.bytes).contains(&place)));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            scan(&bytes);
        }
    }
}
