//! Why traces lie as they do: what Redis needs for them in other layouts. The numbers go to docs/replay.md.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a test"
)]

mod support;

use bytes::Bytes;
use longshore_proto::ExecutionId;
use longshore_proto::trace::*;
use longshore_tests::redis::Redis;
use longshore_trace::{Packed, TraceSettings, TraceStore, unpack};
use redis::aio::MultiplexedConnection;
use support::*;

const RUNS: u32 = 500;

/// A run with `calls` host calls, each with arguments and results of some hundred bytes that differ.
fn typical(n: u32, calls: u32) -> Packed {
    let mut id = [0; 16];
    id.copy_from_slice(&longshore_trace::digest(&n.to_le_bytes()).as_bytes()[..16]);
    let mut all = entries("tenant-1", ExecutionId::from_bytes(id));
    all.truncate(2);
    for call in 0..calls {
        let text = |what: &str| {
            let digits = longshore_trace::digest(format!("{n} {call} {what}").as_bytes()).hex();
            let json = format!(
                "{{\"namespace\":\"orders\",\"key\":\"order-{digits}\",\"value\":{{\"status\":\"open\",\"lines\":[{n},{call}]}}}}"
            );
            Payload::Inline(Bytes::from(json))
        };
        all.push(Entry::CallStart { call, function: "storage.get".into(), args: text("args") });
        all.push(Entry::Clock {
            clock: Clock::Monotonic,
            ns: u64::from(n) * 1_000_003 + u64::from(call) * 77_777,
        });
        let result = text("result");
        all.push(Entry::CallEnd {
            call,
            outcome: "ok".into(),
            result,
            duration_us: 412 + u64::from(call),
            note: None,
        });
    }
    all.push(response());
    pack(all)
}

async fn memory(connection: &mut MultiplexedConnection) -> u64 {
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(connection).await.unwrap();
    let mut sum = 0;
    for key in keys {
        let bytes: u64 = redis::cmd("MEMORY")
            .arg("USAGE")
            .arg(&key)
            .arg("SAMPLES")
            .arg(0)
            .query_async(connection)
            .await
            .unwrap();
        // Its place among all keys, which MEMORY USAGE leaves out of an expiring key.
        sum += bytes;
    }
    sum
}

async fn cleared(connection: &mut MultiplexedConnection) {
    let _: () = redis::cmd("FLUSHALL").query_async(connection).await.unwrap();
}

#[tokio::test]
async fn packed_traces_in_a_stream_by_tenant_need_the_least_memory_where_runs_are_small() {
    let redis = Redis::start().await;
    let client = redis::Client::open(redis.url()).unwrap();
    let config =
        redis::AsyncConnectionConfig::new().set_response_timeout(Some(std::time::Duration::from_secs(30)));
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
    let none = std::collections::BTreeMap::new();
    let settings = TraceSettings::load(&none, ["test".to_owned()]).unwrap();
    for calls in [0, 4, 40] {
        let traces: Vec<_> = (0..RUNS).map(|n| typical(n, calls)).collect();
        let packed: usize = traces.iter().map(|trace| trace.bytes.len()).sum();

        cleared(&mut connection).await;
        let store = TraceStore::new(client.clone(), &settings);
        for batch in traces.chunks(100) {
            store.publish_all(batch).await.unwrap().into_iter().for_each(|result| assert!(result.unwrap()));
        }
        let ours = memory(&mut connection).await;

        // (a) The same bytes and the same summary, a stream for each run, so no index but the list.
        cleared(&mut connection).await;
        for trace in &traces {
            let id = trace.summary.execution.to_string();
            let summary = longshore_proto::wire::encode(&trace.summary).unwrap();
            let mut pipe = redis::pipe();
            pipe.cmd("XADD")
                .arg(format!("longshore-trace:tenant-1:{id}.1"))
                .arg("*")
                .arg("s")
                .arg(summary)
                .arg("d")
                .arg(&trace.bytes[..]);
            pipe.cmd("PEXPIRE").arg(format!("longshore-trace:tenant-1:{id}.1")).arg(604_800_000);
            pipe.cmd("ZADD")
                .arg("longshore-trace:l:tenant-1")
                .arg(trace.summary.started_at_ms)
                .arg(format!("{id}.1"));
            let _: () = pipe.query_async(&mut connection).await.unwrap();
        }
        let by_run = memory(&mut connection).await;

        // (b) An entry of seven fields for each record, in the tenant's stream, with the same list and index.
        cleared(&mut connection).await;
        for trace in &traces {
            let id = format!("{}.1", trace.summary.execution);
            let mut pipe = redis::pipe();
            let mut row = b"1700000000000-0 1700000000000-0 4 1000 ".to_vec();
            row.extend(longshore_proto::wire::encode(&trace.summary).unwrap());
            pipe.cmd("HSET").arg("longshore-trace:i:tenant-1").arg(&id).arg(row);
            let started = trace.summary.started_at_ms;
            pipe.cmd("ZADD").arg("longshore-trace:l:tenant-1").arg(started).arg(&id);
            for record in unpack(&trace.bytes).unwrap().records() {
                let (kind, function, payload) = match &record.entry {
                    Entry::CallStart { function, args: Payload::Inline(bytes), .. } => {
                        ("call_start", function.as_ref(), bytes.to_vec())
                    }
                    Entry::CallEnd { result: Payload::Inline(bytes), .. } => {
                        ("call_end", "storage.get", bytes.to_vec())
                    }
                    other => ("entry", "", longshore_proto::wire::encode(other).unwrap()),
                };
                pipe.cmd("XADD").arg("longshore-trace:t:tenant-1").arg("*");
                pipe.arg("execution").arg(&id).arg("seq").arg(record.seq).arg("at_us").arg(record.at_us);
                pipe.arg("kind")
                    .arg(kind)
                    .arg("function")
                    .arg(function)
                    .arg("outcome")
                    .arg("ok")
                    .arg("payload")
                    .arg(payload);
            }
            let _: () = pipe.query_async(&mut connection).await.unwrap();
        }
        let by_field = memory(&mut connection).await;

        let each = |bytes: u64| bytes / u64::from(RUNS);
        println!(
            "{calls} calls: {} bytes packed; in Redis {} (by tenant, packed), {} (a stream a run), {} (seven fields a record)",
            packed / RUNS as usize,
            each(ours),
            each(by_run),
            each(by_field),
        );
        assert!(ours < by_field, "{calls} calls");
        // Of larger runs each has nodes of its own in either layout, and only ours has an index.
        assert!(if calls < 40 { ours * 3 < by_run * 2 } else { ours < by_run * 21 / 20 }, "{calls} calls");
    }
}
