//! Reading: nothing is given out before everything is proven.

use std::collections::BTreeSet;

use longshore_proto::trace::{Entry, Record};
use longshore_proto::wire;

use crate::container::{self, MAX_UNPACKED_BYTES};
use crate::damage::Damage;
use crate::trace::{Call, End, Trace};

/// Reads a packed trace after having proven that it is whole, unchanged and in order.
///
/// # Errors
/// It is not; see [`Damage`].
pub fn unpack(bytes: &[u8]) -> Result<Trace, Damage> {
    unpack_within(bytes, MAX_UNPACKED_BYTES)
}

/// [`unpack`] with another limit of bytes before packing.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_within(bytes: &[u8], limit: usize) -> Result<Trace, Damage> {
    let container::Opened { version, frame } = container::open(bytes, limit)?;
    let raw = container::split(&frame)?;
    let records =
        raw.iter().enumerate().map(|(at, bytes)| decode(at, bytes)).collect::<Result<Vec<_>, _>>()?;
    ordered(&records)?;
    let Some((_trailer, before)) = raw.split_last() else { return Err(Damage::NoHeader) };
    let Some((Record { entry: Entry::Header(header), .. }, _)) = records.split_first() else {
        return Err(Damage::NoHeader);
    };
    if header.v != version {
        return Err(Damage::SchemaMismatch { header: header.v, container: version });
    }
    if !matches!(records.get(1), Some(Record { entry: Entry::Request { .. }, .. })) {
        return Err(Damage::NoRequest);
    }
    let Some(Record { entry: Entry::Trailer(trailer), .. }) = records.last() else {
        return Err(Damage::NoTrailer);
    };
    let found = u32::try_from(before.len()).unwrap_or(u32::MAX);
    if trailer.records != found {
        return Err(Damage::Count { expected: trailer.records, found });
    }
    once(&records)?;
    if container::rolling(before.iter().copied()) != trailer.hash {
        return Err(Damage::RollingHash);
    }
    let calls = pair(&records)?;
    Trace::new(records, calls).ok_or(Damage::NoHeader)
}

fn decode(at: usize, bytes: &[u8]) -> Result<Record, Damage> {
    wire::decode(bytes).map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        Damage::Undecodable { seq: u32::try_from(at).unwrap_or(u32::MAX), reason: cause }
    })
}

/// Numbers are 0, 1, 2, ...; if not, what became of the one that should come.
fn ordered(records: &[Record]) -> Result<(), Damage> {
    for (at, record) in records.iter().enumerate() {
        let (expected, found) = (u32::try_from(at).unwrap_or(u32::MAX), record.seq);
        if found == expected {
            continue;
        }
        // A second header is the sign of another trace, whatever its number.
        if at > 0 && matches!(record.entry, Entry::Header(_)) {
            return Err(Damage::Spliced { place: format!("record {expected}") });
        }
        let later = records.iter().skip(at).any(|record| record.seq == expected);
        return Err(match (later, found < expected) {
            (true, true) | (false, true) => Damage::Doubled { seq: found },
            (true, false) => Damage::Swapped { expected, found },
            (false, false) => Damage::Gap { expected, found },
        });
    }
    Ok(())
}

/// What may be there once is there once, and nothing follows the trailer.
fn once(records: &[Record]) -> Result<(), Damage> {
    let (mut response, mut failure, mut streams) = (false, false, BTreeSet::new());
    for (at, record) in records.iter().enumerate() {
        let repeated = |what: String| Damage::Repeated { seq: record.seq, what };
        let spliced = || Damage::Spliced { place: format!("record {}", record.seq) };
        match &record.entry {
            Entry::Header(_) if at != 0 => return Err(spliced()),
            Entry::Trailer(_) if at + 1 != records.len() => return Err(spliced()),
            Entry::Request { .. } if at != 1 => return Err(repeated("request".to_owned())),
            Entry::Response { .. } if std::mem::replace(&mut response, true) => {
                return Err(repeated("response".to_owned()));
            }
            Entry::Failure { .. } if std::mem::replace(&mut failure, true) => {
                return Err(repeated("failure".to_owned()));
            }
            Entry::Stream { stream, .. } if !streams.insert(*stream) => {
                return Err(repeated(format!("stream {stream}")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Calls are numbered without a gap and end at most once, after their beginning.
fn pair(records: &[Record]) -> Result<Vec<Call>, Damage> {
    let mut calls: Vec<Call> = Vec::new();
    for record in records {
        match &record.entry {
            Entry::CallStart { call, function, args } => {
                let expected = u32::try_from(calls.len()).unwrap_or(u32::MAX);
                if *call != expected {
                    return Err(Damage::CallNumber { expected, found: *call });
                }
                calls.push(Call {
                    call: *call,
                    seq: record.seq,
                    at_us: record.at_us,
                    function: function.to_string(),
                    args: args.clone(),
                    end: None,
                });
            }
            Entry::CallEnd { call, outcome, result, duration_us, note } => {
                let begun = usize::try_from(*call).ok().and_then(|at| calls.get_mut(at));
                let Some(begun) = begun else { return Err(Damage::EndWithoutStart { call: *call }) };
                if begun.end.is_some() {
                    return Err(Damage::EndedTwice { call: *call });
                }
                begun.end = Some(End {
                    seq: record.seq,
                    outcome: outcome.to_string(),
                    result: result.clone(),
                    duration_us: *duration_us,
                    note: note.clone(),
                });
            }
            _ => {}
        }
    }
    Ok(calls)
}
