//! The self-contained file: complete, the same bytes each time, and hostile until proven.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "a test")]

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use longshore_proto::trace::{Entry, Payload};
use longshore_trace::file::{self, FileError};
use longshore_trace::{Damage, Exported, digest};
use support::*;

fn exported() -> Exported {
    let content = Bytes::from(vec![7; 70_000]);
    let sha256 = digest(&content);
    let mut all = entries("tenant-1", EXECUTION);
    all[1] = Entry::Request { body: Some(Payload::Stored { sha256, bytes: 70_000 }) };
    Exported {
        trace: pack(all).bytes,
        payloads: BTreeMap::from([(sha256, content)]),
        bundle: Some(Bytes::from_static(b"the bundle")),
    }
}

fn written(exported: &Exported) -> Vec<u8> {
    let mut bytes = Vec::new();
    file::write(exported, &mut bytes).unwrap();
    bytes
}

fn refused(bytes: &[u8]) -> Damage {
    match file::read(bytes).unwrap_err() {
        FileError::Damaged(damage) => damage,
        other @ FileError::Io(_) => panic!("{other:?}"),
    }
}

/// A tar of entries of any name and type.
fn tar_of(entries: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, bytes) in entries {
        let mut header = tar::Header::new_ustar();
        // Not through `set_path`, which refuses what a hostile file has.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

const FILE: tar::EntryType = tar::EntryType::Regular;

#[test]
fn a_run_comes_back_from_its_file_and_the_file_is_the_same_each_time() {
    let exported = exported();
    let bytes = written(&exported);
    assert_eq!(written(&exported), bytes);
    let (read, trace) = file::read(&bytes[..]).unwrap();
    assert_eq!(read, exported);
    assert_eq!(trace.execution(), EXECUTION);
    let without = Exported { bundle: None, ..exported };
    assert_eq!(file::read(&written(&without)[..]).unwrap().0, without);
    assert!(file::is_bare(&without.trace) && !file::is_bare(&bytes));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let changed = |change: fn(&mut Exported)| {
        let mut exported = exported();
        change(&mut exported);
        refused(&written(&exported))
    };
    assert!(matches!(changed(|e| e.bundle = Some(Bytes::from_static(b"x"))), Damage::ForeignBundle { .. }));
    assert!(matches!(changed(|e| e.payloads.clear()), Damage::PayloadMissing { .. }));
    assert!(matches!(
        changed(|e| *e.payloads.values_mut().next().unwrap() = Bytes::from(vec![8; 70_000])),
        Damage::PayloadDigest { .. }
    ));
    assert!(matches!(
        changed(|e| *e.payloads.values_mut().next().unwrap() = Bytes::from_static(b"short")),
        Damage::PayloadLength { found: 5, .. }
    ));
    assert!(matches!(
        changed(|e| drop(e.payloads.insert(digest(b"x"), Bytes::from_static(b"x")))),
        Damage::ForeignPayload { .. }
    ));
    assert!(matches!(changed(|e| e.trace = Bytes::from_static(b"junk")), Damage::NotATrace));
}

#[test]
fn names_types_and_orders_that_are_not_ours_are_refused() {
    let exported = exported();
    let trace = &exported.trace[..];
    let (sha256, payload) = exported.payloads.first_key_value().unwrap();
    let name = format!("payloads/{}", sha256.hex());
    let upper = format!("payloads/{}", sha256.hex().to_uppercase());
    let good = [("trace", FILE, trace), (name.as_str(), FILE, &payload[..])];
    assert!(file::read(&tar_of(&good)[..]).is_ok());
    for bad in [
        vec![],
        vec![good[1], good[0]],
        vec![good[0], good[0], good[1]],
        vec![good[0], good[1], good[1]],
        vec![good[0], ("bundle.tar.zst", FILE, &b"the bundle"[..]), good[1]],
        vec![good[0], good[1], ("../../etc/passwd", FILE, b"x")],
        vec![good[0], good[1], ("payloads/../trace", FILE, b"x")],
        vec![good[0], (&upper, FILE, &payload[..])],
        vec![("./trace", FILE, trace), good[1]],
        vec![good[0], good[1], ("bundle.tar.zst", tar::EntryType::Symlink, b"")],
        vec![good[0], good[1], ("payloads", tar::EntryType::Directory, b"")],
        vec![("trace", tar::EntryType::GNULongName, b"x"), good[0], good[1]],
        vec![("x", tar::EntryType::XHeader, b"11 path=a\n"), good[0], good[1]],
    ] {
        let damage = refused(&tar_of(&bad));
        let names: Vec<_> = bad.iter().map(|entry| entry.0).collect();
        assert!(matches!(damage, Damage::File { .. }), "{names:?}: {damage:?}");
    }
}

#[test]
fn a_cut_or_padded_file_is_refused() {
    let whole = written(&exported());
    for at in
        (0..whole.len()).step_by(97).chain([512, whole.len() - 1, whole.len() - 512, whole.len() - 1_024])
    {
        assert!(file::read(&whole[..at]).is_err(), "cut at {at} of {}", whole.len());
    }
    assert!(file::read(&[&whole[..], b"more"].concat()[..]).is_err());
    let hidden = [&whole[..], b"more", &[0; 1_020]].concat();
    assert!(matches!(refused(&hidden), Damage::File { .. }));
    assert!(file::read(&[&whole[..], &[0; 512]].concat()[..]).is_ok(), "tar pads with zeros");
}

#[test]
fn any_changed_byte_of_what_counts_is_noticed() {
    let exported = exported();
    let whole = written(&exported);
    for at in (0..whole.len()).step_by(61) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        // Padding and unused fields of a header (owner, time) say nothing; then what is read is what was written.
        if let Ok((read, _)) = file::read(&bytes[..]) {
            assert_eq!(read, exported, "byte {at}");
        }
    }
}
