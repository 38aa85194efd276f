//! Replays every trace of a folder against its own bundle and prints a line of JSON for each: for the end-to-end tests, which start it where there is
//! no network.
//!
//! `<execution>.trace` is a packed trace, `<digest>.bundle` a bundle, `payloads/<digest>` a payload; the second argument is the cache for compiled
//! components.

#![expect(
    clippy::unwrap_used,
    reason = "a part of the tests, which fails by panicking and is read line by line"
)]

use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::StreamExt as _;
use longshore_proto::ContentHash;
use longshore_proto::trace::{Entry, Payload, Record};
use longshore_replay::{Options, Recorded, Replayer, ReplayerConfig};
use longshore_trace::unpack;
use serde_json::{Value, json};

/// The payload outside of the trace that a record names.
fn payload_of(record: &Record) -> Option<ContentHash> {
    let payload = match &record.entry {
        Entry::Request { body } | Entry::Response { body, .. } => body.as_ref()?,
        Entry::CallStart { args: payload, .. }
        | Entry::CallEnd { result: payload, .. }
        | Entry::Stream { content: payload, .. } => payload,
        _ => return None,
    };
    match payload {
        Payload::Stored { sha256, .. } => Some(*sha256),
        Payload::Inline(_) | Payload::Cut { .. } => None,
    }
}

/// The parts of a run out of the folder.
fn recorded(folder: &Path, file: &Path) -> Recorded {
    let trace = unpack(&std::fs::read(file).unwrap()).unwrap();
    let hash = trace.header().run.context.content_hash;
    let bundle = std::fs::read(folder.join(format!("{}.bundle", hash.hex()))).unwrap();
    let payload = |digest: ContentHash| {
        let bytes = std::fs::read(folder.join("payloads").join(digest.hex())).unwrap();
        (digest, Bytes::from(bytes))
    };
    let payloads = trace.records().iter().filter_map(payload_of).map(payload).collect();
    Recorded { bundle: bundle.into(), payloads, trace }
}

async fn replay(replayer: &Replayer, folder: &Path, file: &Path) -> Value {
    let recorded = recorded(folder, file);
    let execution = recorded.trace.header().execution.to_string();
    match replayer.replay(&recorded, &Options::default()).await {
        Ok(report) => json!({ "execution": execution, "report": report, "text": report.text(false) }),
        Err(error) => json!({ "execution": execution, "error": format!("{error}: {error:?}") }),
    }
}

fn main() {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (folder, cache) = (args.next().unwrap(), args.next().unwrap());
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "trace"));
    files.sort();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = ReplayerConfig::new(cache);
        let jobs = config.jobs;
        let replayer = Replayer::new(config).unwrap();
        futures::stream::iter(&files)
            .map(|file| replay(&replayer, &folder, file))
            .buffer_unordered(jobs)
            .for_each(async |line| println!("{line}"))
            .await;
    });
}
