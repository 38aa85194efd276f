//! Whatever is done to a packed trace is noticed, and said as what it is.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "a test")]

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use longshore_proto::trace::*;
use longshore_proto::{ExecutionId, wire};
use longshore_trace::{
    Damage, PackError, Packed, Packer, TrailerParts, container, digest, unpack, unpack_within,
};
use support::*;

fn whole() -> Bytes {
    pack(entries("tenant-1", EXECUTION)).bytes
}

fn refused(bytes: &[u8]) -> Damage {
    unpack(bytes).unwrap_err()
}

/// Records changed at will, the container right.
fn with_records(change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Damage {
    let mut raw = records(&whole());
    change(&mut raw);
    refused(&seal(&raw))
}

#[test]
fn what_was_packed_is_read() {
    let given = entries("tenant-1", EXECUTION);
    let packed = pack(given.clone());
    let trace = unpack(&packed.bytes).unwrap();
    let read: Vec<_> = trace.records().iter().map(|record| record.entry.clone()).collect();
    assert_eq!(read[..given.len()], given);
    assert_eq!(trace.records().len(), given.len() + 1);
    assert_eq!(trace.execution(), EXECUTION);
    assert_eq!(trace.request_body(), Some(&inline(b"question")));
    assert_eq!(trace.response(), Some(&response()));
    assert_eq!(trace.failure(), None);
    assert_eq!((trace.trailer().outcome.as_str(), trace.trailer().records), ("ok", 10));
    let calls: Vec<_> =
        trace.calls().iter().map(|c| (c.call, c.seq, c.end.as_ref().map(|e| e.seq))).collect();
    assert_eq!(calls, [(0, 2, Some(6)), (1, 4, Some(5))]);
    let streams: Vec<_> = trace.streams().map(|s| (s.stream, s.kind, s.content.clone())).collect();
    assert_eq!(streams, [(0, StreamKind::Stdout, inline(b"hello\n"))]);
}

#[test]
fn the_summary_says_what_the_list_shows_and_is_the_same_when_imported() {
    let packed = pack(entries("tenant-1", EXECUTION));
    let Packed { tenant, summary, .. } = &packed;
    assert_eq!(tenant.as_str(), "tenant-1");
    assert_eq!((summary.request.as_str(), summary.status), ("GET /hello", Some(201)), "without the query");
    assert_eq!((summary.outcome.as_str(), summary.replayable, summary.host_calls), ("ok", true, 2));
    assert_eq!(summary.bytes, packed.bytes.len() as u64);
    assert_eq!(Packed::open(packed.bytes.clone()).unwrap().0, packed);
    let cut = TrailerParts {
        unreplayable: Some(Unreplayable { after_call: Some(1), reason: "too large".into() }),
        secrets_read: true,
        ..parts()
    };
    let packed = pack_with(entries("tenant-1", EXECUTION), cut);
    assert!(!packed.summary.replayable && packed.summary.secrets_read);
    assert_eq!(Packed::open(packed.bytes.clone()).unwrap().0, packed);
}

#[test]
fn every_single_byte_that_is_changed_removed_doubled_or_swapped_is_noticed() {
    let whole = whole();
    for at in 0..whole.len() {
        for bit in [1, 0x80] {
            let mut bytes = whole.to_vec();
            bytes[at] ^= bit;
            assert!(unpack(&bytes).is_err(), "bit {bit} of byte {at} flipped");
        }
        let mut bytes = whole.to_vec();
        let byte = bytes.remove(at);
        assert!(unpack(&bytes).is_err(), "byte {at} removed");
        bytes.insert(at, byte);
        bytes.insert(at, byte);
        assert!(unpack(&bytes).is_err(), "byte {at} doubled");
        let mut bytes = whole.to_vec();
        if at > 0 && bytes[at] != bytes[at - 1] {
            bytes.swap(at - 1, at);
            assert!(unpack(&bytes).is_err(), "byte {at} swapped with the one before");
        }
        assert!(unpack(&whole[..at]).is_err(), "cut at byte {at}");
    }
}

#[test]
fn every_single_record_that_is_changed_removed_doubled_or_swapped_is_noticed_though_the_digest_is_right() {
    let count = records(&whole()).len();
    for at in 0..count {
        assert!(matches!(
            with_records(|raw| drop(raw.remove(at))),
            Damage::Gap { .. } | Damage::NoHeader | Damage::NoRequest | Damage::NoTrailer
        ));
        let doubled = with_records(|raw| raw.insert(at, raw[at].clone()));
        assert!(matches!(doubled, Damage::Doubled { .. } | Damage::Spliced { .. }), "{at}: {doubled:?}");
        for other in at + 1..count {
            let swapped = with_records(|raw| raw.swap(at, other));
            assert!(matches!(swapped, Damage::Swapped { .. }), "{at} and {other}: {swapped:?}");
        }
        // Every byte of the record: it is either no record any more, or one that was not written.
        if at + 1 < count {
            for byte in 0..records(&whole())[at].len() {
                let _noticed = with_records(|raw| raw[at][byte] ^= 1);
            }
        }
    }
}

#[test]
fn what_is_no_trace_is_said_to_be_none() {
    for bytes in [&b""[..], b"x", b"LSTRAC\0\0", &[0; 100], b"{\"a\":1}"] {
        assert_eq!(refused(bytes), Damage::NotATrace, "{bytes:?}");
    }
    let mut bytes = whole().to_vec();
    bytes[8..10].copy_from_slice(&0_u16.to_le_bytes());
    assert_eq!(refused(&bytes), Damage::NotATrace);
}

#[test]
fn a_newer_schema_is_refused_by_name_before_anything_else() {
    let mut bytes = whole().to_vec();
    bytes[8..10].copy_from_slice(&7_u16.to_le_bytes());
    assert_eq!(refused(&bytes), Damage::FutureSchema { found: 7, known: TRACE_VERSION });
    assert!(refused(&bytes).to_string().contains("version 7"));
    let mut newer = header("tenant-1", EXECUTION);
    newer.v = 9;
    let forged = forge(vec![Entry::Header(Box::new(newer)), Entry::Request { body: None }]);
    assert_eq!(refused(&forged), Damage::SchemaMismatch { header: 9, container: TRACE_VERSION });
}

#[test]
fn cut_lengthened_and_joined_traces_are_told_apart() {
    let whole = whole();
    let (expected, found) = (whole.len() as u64, whole.len() as u64 - 5);
    assert_eq!(refused(&whole[..whole.len() - 5]), Damage::Truncated { expected, found });
    assert!(matches!(refused(&whole[..9]), Damage::Truncated { found: 9, .. }));
    assert_eq!(refused(&[&whole[..], b"more"].concat()), Damage::Surplus { bytes: 4 });
    assert!(matches!(refused(&[&whole[..], &whole[..]].concat()), Damage::Spliced { .. }));
    let mut huge = whole.to_vec();
    huge[10..18].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(refused(&huge), Damage::TooLarge { .. }));
}

#[test]
fn a_changed_digest_is_told_from_changed_records() {
    let mut bytes = whole().to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert_eq!(refused(&bytes), Damage::Digest);
    // Somebody who knows the format makes the digest right, but not what the trailer says of the records.
    assert_eq!(
        with_records(|raw| {
            let mut record: Record = wire::decode(&raw[3]).unwrap();
            record.entry = Entry::Clock { clock: Clock::Wall, ns: 1 };
            raw[3] = wire::encode(&record).unwrap();
        }),
        Damage::RollingHash
    );
}

#[test]
fn records_of_another_trace_are_noticed() {
    let other = pack(entries("tenant-1", ExecutionId::from_bytes([2; 16]))).bytes;
    // The second half of the other one: same numbers, same kinds.
    let joined = |changed: fn(&mut Vec<Entry>)| {
        let mut theirs = entries("tenant-1", ExecutionId::from_bytes([2; 16]));
        changed(&mut theirs);
        let theirs = records(&pack(theirs).bytes);
        with_records(|raw| raw[5..].clone_from_slice(&theirs[5..]))
    };
    assert_eq!(joined(|_| ()), Damage::RollingHash);
    assert_eq!(joined(|all| all[9] = failure()), Damage::RollingHash);
    // One behind the other in one frame.
    let both = [records(&whole()), records(&other)].concat();
    assert!(matches!(refused(&seal(&both)), Damage::Spliced { .. }));
}

#[test]
fn a_gap_a_swap_and_a_double_are_told_apart() {
    assert_eq!(with_records(|raw| drop(raw.remove(4))), Damage::Gap { expected: 4, found: 5 });
    assert_eq!(with_records(|raw| raw.swap(4, 6)), Damage::Swapped { expected: 4, found: 6 });
    assert_eq!(with_records(|raw| raw.insert(4, raw[3].clone())), Damage::Doubled { seq: 3 });
    assert_eq!(with_records(|raw| raw[4] = raw[3].clone()), Damage::Doubled { seq: 3 });
}

#[test]
fn what_must_be_there_is_missed_by_name() {
    assert_eq!(refused(&seal(&[])), Damage::NoHeader);
    assert_eq!(refused(&forge(vec![])), Damage::NoHeader);
    assert_eq!(refused(&forge(vec![Entry::Request { body: None }])), Damage::NoHeader);
    let first = || Entry::Header(Box::new(header("tenant-1", EXECUTION)));
    assert_eq!(refused(&forge(vec![first()])), Damage::NoRequest);
    assert_eq!(refused(&forge(vec![first(), start(0)])), Damage::NoRequest);
    assert_eq!(with_records(|raw| drop(raw.pop())), Damage::NoTrailer);
}

#[test]
fn what_may_be_there_once_is_refused_twice() {
    let with = |more: Vec<Entry>| {
        let mut all = entries("tenant-1", EXECUTION);
        all.extend(more);
        refused(&forge(all))
    };
    let what = |damage: Damage| match damage {
        Damage::Repeated { what, .. } => what,
        other => other.to_string(),
    };
    assert_eq!(what(with(vec![response()])), "response");
    assert_eq!(what(with(vec![failure(), failure()])), "failure");
    assert_eq!(what(with(vec![Entry::Request { body: None }])), "request");
    let stream = |stream| Entry::Stream { stream, kind: StreamKind::Input, content: inline(b"") };
    assert_eq!(what(with(vec![stream(0)])), "stream 0");
    let again = Entry::Header(Box::new(header("tenant-1", EXECUTION)));
    assert!(matches!(with(vec![again]), Damage::Spliced { .. }));
    let early = Entry::Trailer(trailer(0, digest(b"")));
    assert!(matches!(with(vec![early]), Damage::Spliced { .. }));
    // An answer that was refused for its size has both.
    let mut both = entries("tenant-1", EXECUTION);
    both.push(failure());
    assert!(unpack(&forge(both)).is_ok());
}

#[test]
fn calls_that_do_not_pair_are_refused() {
    let with = |calls: Vec<Entry>| {
        let mut all = entries("tenant-1", EXECUTION);
        all.truncate(2);
        all.extend(calls);
        unpack(&forge(all)).map(|trace| trace.calls().len())
    };
    assert_eq!(with(vec![start(0), start(1), end(1)]).unwrap(), 2, "one was under way at the end");
    assert_eq!(with(vec![start(1)]).unwrap_err(), Damage::CallNumber { expected: 0, found: 1 });
    assert_eq!(with(vec![start(0), start(0)]).unwrap_err(), Damage::CallNumber { expected: 1, found: 0 });
    assert_eq!(with(vec![end(0)]).unwrap_err(), Damage::EndWithoutStart { call: 0 });
    assert_eq!(with(vec![end(0), start(0)]).unwrap_err(), Damage::EndWithoutStart { call: 0 });
    assert_eq!(with(vec![start(0), end(0), end(0)]).unwrap_err(), Damage::EndedTwice { call: 0 });
    assert_eq!(with(vec![end(u32::MAX)]).unwrap_err(), Damage::EndWithoutStart { call: u32::MAX });
}

#[test]
fn a_trailer_that_counts_otherwise_is_refused() {
    let damage = with_records(|raw| {
        let mut record: Record = wire::decode(raw.last().unwrap()).unwrap();
        let Entry::Trailer(trailer) = &mut record.entry else { unreachable!() };
        trailer.records = 11;
        *raw.last_mut().unwrap() = wire::encode(&record).unwrap();
    });
    assert_eq!(damage, Damage::Count { expected: 11, found: 10 });
}

#[test]
fn a_record_that_is_none_is_refused_with_its_place() {
    for bad in [&b""[..], b"\xc1", b"\x93\x01\x02", &[0x91; 5_000]] {
        let damage = with_records(|raw| raw[3] = bad.to_vec());
        assert!(matches!(damage, Damage::Undecodable { seq: 3, .. }), "{damage:?}");
    }
    // A length that goes beyond the end.
    let frame = [&1_000_u32.to_le_bytes()[..], b"x"].concat();
    let damage = refused(&container::seal(TRACE_VERSION, &frame).unwrap());
    assert!(matches!(damage, Damage::Frame { .. }), "{damage:?}");
}

#[test]
fn a_few_bytes_that_unpack_to_many_are_refused_before_memory_is_asked_for() {
    let bomb = container::seal(TRACE_VERSION, &vec![0; container::MAX_UNPACKED_BYTES + 1]).unwrap();
    assert!(bomb.len() < 100_000);
    assert!(matches!(refused(&bomb), Damage::TooLarge { what: "unpacked bytes", .. }));
    assert!(matches!(unpack_within(&whole(), 100).unwrap_err(), Damage::TooLarge { limit: 100, .. }));
    // As many empty records as fit: each is four bytes of length.
    let many = container::seal(TRACE_VERSION, &vec![0; 4 * (container::MAX_RECORDS as usize + 1)]).unwrap();
    assert!(matches!(refused(&many), Damage::TooLarge { what: "records", .. }));
}

#[test]
fn payloads_that_are_missing_changed_cut_or_foreign_are_refused() {
    let (content, other) = (Bytes::from(vec![7; 70_000]), Bytes::from_static(b"other"));
    let sha256 = digest(&content);
    let mut all = entries("tenant-1", EXECUTION);
    all[1] = Entry::Request { body: Some(Payload::Stored { sha256, bytes: 70_000 }) };
    let trace = unpack(&pack(all.clone()).bytes).unwrap();
    let check =
        |bytes: Option<Bytes>| trace.check_payloads(&bytes.map(|b| (sha256, b)).into_iter().collect());
    assert_eq!(check(Some(content.clone())), Ok(()));
    assert_eq!(check(None), Err(Damage::PayloadMissing { sha256 }));
    let length = |found| Err(Damage::PayloadLength { sha256, expected: 70_000, found });
    assert_eq!(check(Some(content.slice(1..))), length(69_999));
    assert_eq!(check(Some(Bytes::from(vec![8; 70_000]))), Err(Damage::PayloadDigest { sha256 }));
    let foreign = digest(&other);
    let two = BTreeMap::from([(sha256, content), (foreign, other)]);
    assert_eq!(trace.check_payloads(&two), Err(Damage::ForeignPayload { sha256: foreign }));
    // Two lengths of one payload.
    all[9] = Entry::Response {
        status: 200,
        headers: Vec::new(),
        body: Some(Payload::Stored { sha256, bytes: 5 }),
        trailers: Vec::new(),
    };
    let trace = unpack(&pack(all).bytes).unwrap();
    assert!(matches!(trace.stored_payloads(), Err(Damage::PayloadLength { .. })));
}

#[test]
fn a_foreign_bundle_or_component_is_refused() {
    let trace = unpack(&whole()).unwrap();
    assert_eq!(trace.check_bundle(b"the bundle"), Ok(()));
    assert_eq!(trace.check_component(b"the component"), Ok(()));
    let (expected, found) = (digest(b"the bundle"), digest(b"another"));
    assert_eq!(trace.check_bundle(b"another"), Err(Damage::ForeignBundle { expected, found }));
    assert!(matches!(trace.check_component(b"another"), Err(Damage::ForeignComponent { .. })));
}

#[test]
fn a_recorder_without_a_header_or_with_too_much_gets_no_trace() {
    let mut packer = Packer::new();
    packer.push(0, start(0));
    assert_eq!(packer.finish(0, parts()).unwrap_err(), PackError::NoHeader);
    let mut packer = Packer::new();
    packer.push(0, Entry::Header(Box::new(header("tenant-1", EXECUTION))));
    let large = || Entry::Stream { stream: 0, kind: StreamKind::Output, content: inline(&vec![0; 1 << 20]) };
    while !packer.is_full() {
        packer.push(0, large());
    }
    assert!(
        packer.len() < container::MAX_UNPACKED_BYTES - (2 << 20),
        "what is written at the end still fits"
    );
    for _ in 0..4 {
        packer.push(0, large());
    }
    assert!(packer.is_full());
    assert!(matches!(packer.finish(0, parts()).unwrap_err(), PackError::TooLarge { .. }));
}

#[test]
fn a_trace_of_the_first_release_is_read_as_then() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/trace-1.bin");
    if std::env::var_os("LONGSHORE_BLESS").is_some() {
        std::fs::write(path, whole()).unwrap();
    }
    // Not compared byte for byte: a new zstd may pack the same records otherwise.
    let kept = unpack(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(kept, unpack(&whole()).unwrap());
}
