//! Traces in a real Redis: whole or absent, bounded, and refused when Redis lost some of them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "a test")]

mod support;

use std::sync::Arc;

use longshore_proto::trace::Summary;
use longshore_proto::{ExecutionId, TenantId};
use longshore_service::config::{ByteSize, Millis};
use longshore_tests::redis::Redis;
use longshore_trace::store::{Cursor, Filter, TraceStore, TraceStoreError};
use longshore_trace::{Damage, Packed, TraceSettings, unpack};
use redis::aio::MultiplexedConnection;
use support::*;

struct World {
    redis: Redis,
    settings: TraceSettings,
    connection: MultiplexedConnection,
}

impl World {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let client = redis::Client::open(redis.url()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        let none = std::collections::BTreeMap::new();
        let mut settings = TraceSettings::load(&none, ["test".to_owned()]).unwrap();
        settings.timeout = Millis(std::time::Duration::from_secs(20));
        Self { redis, settings, connection }
    }

    fn store(&self) -> TraceStore {
        TraceStore::new(redis::Client::open(self.redis.url()).unwrap(), &self.settings)
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &str) -> T {
        let mut parts = command.split(' ');
        let mut cmd = redis::cmd(parts.next().unwrap());
        for part in parts {
            cmd.arg(part);
        }
        cmd.query_async(&mut self.connection.clone()).await.unwrap()
    }

    /// What is counted is what is there.
    async fn assert_exact(&self) {
        let rows: Vec<(String, Vec<u8>)> = self.ask("HGETALL longshore-trace:i:{tenant-1}").await;
        let mut sum = 0_u64;
        let mut entries = 0_u64;
        for (_, row) in rows.iter().filter(|(name, _)| name.contains('.')) {
            let parts: Vec<_> = row.splitn(7, |b| *b == b' ').map(String::from_utf8_lossy).collect();
            entries += parts[2].parse::<u64>().unwrap();
            sum += parts[3].parse::<u64>().unwrap();
            let head: usize = parts[..4].iter().map(|part| part.len() + 1).sum();
            let bytes: u64 = parts[4].parse().unwrap();
            assert_eq!(parts[3].parse::<u64>().unwrap(), bytes + (row.len() - head) as u64);
        }
        let total: Option<u64> = self.ask("GET longshore-trace:b:{tenant-1}").await;
        assert_eq!(total.unwrap_or(0), sum);
        assert_eq!(self.ask::<u64>("XLEN longshore-trace:t:{tenant-1}").await, entries);
        let listed: u64 = self.ask("ZCARD longshore-trace:l:{tenant-1}").await;
        assert_eq!(listed, rows.iter().filter(|(name, _)| name.contains('.')).count() as u64);
    }
}

const STREAM: &str = "longshore-trace:t:{tenant-1}";

fn tenant() -> TenantId {
    "tenant-1".parse().unwrap()
}

fn id(n: u8) -> ExecutionId {
    ExecutionId::from_bytes([n; 16])
}

fn small(n: u8) -> Packed {
    run("tenant-1", id(n), 1, 100, |header| header.started_at_ms += u64::from(n))
}

fn damage<T: std::fmt::Debug>(result: Result<T, TraceStoreError>) -> Damage {
    match result.unwrap_err() {
        TraceStoreError::Damaged(damage) => damage,
        other => panic!("{other:?}"),
    }
}

fn runs(traces: &[Summary]) -> Vec<u8> {
    traces.iter().map(|summary| summary.execution.as_bytes()[0]).collect()
}

async fn all(store: &TraceStore) -> Vec<u8> {
    runs(&store.list(&tenant(), &Filter::default(), None, 1_000).await.unwrap().traces)
}

#[tokio::test]
async fn traces_of_all_sizes_come_back_as_they_were_and_to_their_tenant_only() {
    let world = World::start().await;
    let store = world.store();
    let other: TenantId = "tenant-10".parse().unwrap();
    for (n, noise) in [(1, 0), (2, 60_000), (3, 65_536 * 2), (4, 3_000_000)] {
        let packed = run("tenant-1", id(n), 1, noise, |_| ());
        assert!(store.publish(&packed).await.unwrap());
        assert_eq!(store.fetch(&tenant(), id(n), None).await.unwrap(), packed.bytes);
        assert_eq!(store.fetch(&tenant(), id(n), Some(1)).await.unwrap(), packed.bytes);
        assert_eq!(store.summary(&tenant(), id(n), None).await.unwrap(), packed.summary);
        assert!(unpack(&packed.bytes).is_ok());
        for missing in [store.fetch(&other, id(n), None).await, store.fetch(&tenant(), id(n), Some(2)).await]
        {
            assert!(matches!(missing, Err(TraceStoreError::NotFound { .. })), "{missing:?}");
        }
    }
    world.assert_exact().await;
}

#[tokio::test]
async fn a_trace_that_is_published_again_is_there_once() {
    let world = World::start().await;
    let store = world.store();
    assert!(store.publish(&small(1)).await.unwrap());
    assert!(!store.publish(&small(1)).await.unwrap());
    let results = store.publish_all(&[small(2), small(1), small(3)]).await.unwrap();
    assert_eq!(results.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(all(&store).await, [3, 2, 1]);
    world.assert_exact().await;
    // One whose entries are gone is written anew.
    let _: u64 = world.ask(&format!("XTRIM {STREAM} MAXLEN 0")).await;
    assert!(store.publish(&small(1)).await.unwrap());
    assert!(store.fetch(&tenant(), id(1), None).await.is_ok());
    assert_eq!(all(&store).await, [1]);
    world.assert_exact().await;
}

#[tokio::test]
async fn attempts_of_one_run_are_kept_apart_and_the_newest_is_the_default() {
    let world = World::start().await;
    let store = world.store();
    for attempt in [1, 3, 2] {
        store.publish(&run("tenant-1", id(1), attempt, 100, |_| ())).await.unwrap();
    }
    let attempt = async |asked| store.summary(&tenant(), id(1), asked).await.unwrap().attempt;
    assert_eq!((attempt(None).await, attempt(Some(1)).await, attempt(Some(2)).await), (3, 1, 2));
    assert!(store.remove(&tenant(), id(1), 3).await.unwrap());
    assert!(!store.remove(&tenant(), id(1), 3).await.unwrap());
    world.assert_exact().await;
    assert_eq!(unpack(&store.fetch(&tenant(), id(1), Some(2)).await.unwrap()).unwrap().header().attempt, 2);
}

#[tokio::test]
async fn the_oldest_make_room_by_bytes_and_by_entries() {
    let mut world = World::start().await;
    let noisy = |n| run("tenant-1", id(n), 1, 20_000, |header| header.started_at_ms += u64::from(n));
    world.store().publish(&noisy(1)).await.unwrap();
    let cost: u64 = world.ask("GET longshore-trace:b:{tenant-1}").await;
    world.settings.max_bytes = ByteSize(5 * cost + cost / 2);
    let store = world.store();
    for n in 2..=9 {
        store.publish(&noisy(n)).await.unwrap();
        world.assert_exact().await;
    }
    let total: u64 = world.ask("GET longshore-trace:b:{tenant-1}").await;
    assert!(total <= world.settings.max_bytes.bytes());
    assert_eq!(all(&store).await, [9, 8, 7, 6, 5]);
    world.settings.max_entries = 3.try_into().unwrap();
    let store = world.store();
    store.publish(&noisy(10)).await.unwrap();
    assert_eq!(all(&store).await, [10, 9, 8]);
    world.assert_exact().await;
    let large = run("tenant-1", id(11), 1, 120_000, |_| ());
    let refused = store.publish(&large).await.unwrap_err();
    assert!(matches!(refused, TraceStoreError::TooLarge { setting: "LONGSHORE_TRACE_MAX_BYTES", .. }));
    assert!(refused.to_string().contains("LONGSHORE_TRACE_MAX_BYTES"), "{refused}");
    assert_eq!(all(&store).await, [10, 9, 8], "what is refused costs nobody its place");
    world.settings.max_bytes = ByteSize(1 << 20);
    let many = run("tenant-1", id(11), 1, 300_000, |_| ());
    let refused = world.store().publish(&many).await.unwrap_err();
    assert!(matches!(refused, TraceStoreError::TooLarge { setting: "LONGSHORE_TRACE_MAX_ENTRIES", .. }));
}

#[tokio::test]
async fn a_trace_goes_when_its_time_is_over_though_its_tenant_goes_on() {
    let world = World::start().await;
    let store = world.store();
    store.publish(&small(1)).await.unwrap();
    for key in ["t", "i", "l", "b"] {
        let ttl = world.redis.ttl(&format!("longshore-trace:{key}:{{tenant-1}}")).await;
        assert!((604_700..=604_800).contains(&ttl), "{key}: {ttl}");
    }
    let script = "local entry = redis.call('XRANGE', KEYS[1], '-', '+')[1]
        redis.call('DEL', KEYS[1])
        redis.call('XADD', KEYS[1], '1000-7', unpack(entry[2]))
        local row = redis.call('HGET', KEYS[2], ARGV[1])
        redis.call('HSET', KEYS[2], ARGV[1], '1000-7 1000-7' .. string.match(row, '^%S+ %S+(.*)$'))";
    let _: () = redis::cmd("EVAL")
        .arg(script)
        .arg(2)
        .arg(&[STREAM, "longshore-trace:i:{tenant-1}", &format!("{}.1", id(1))])
        .query_async(&mut world.connection.clone())
        .await
        .unwrap();
    assert!(store.fetch(&tenant(), id(1), None).await.is_ok());
    store.publish(&small(2)).await.unwrap();
    assert!(matches!(store.fetch(&tenant(), id(1), None).await, Err(TraceStoreError::NotFound { .. })));
    assert_eq!(all(&store).await, [2]);
    world.assert_exact().await;
}

#[tokio::test]
async fn a_stream_that_was_trimmed_is_said_to_be_so() {
    let world = World::start().await;
    let store = world.store();
    // Four chunks.
    let large = run("tenant-1", id(2), 1, 65_536 * 3 + 5_000, |_| ());
    for packed in [&small(1), &large, &small(3)] {
        store.publish(packed).await.unwrap();
    }
    let ids = async || {
        let reply: redis::streams::StreamRangeReply = world.ask(&format!("XRANGE {STREAM} - +")).await;
        reply.ids.into_iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    let entries = ids().await;
    assert_eq!(entries.len(), 6);
    // The first is gone by the stream's own bound, the others by hand.
    let _: u64 = world.ask(&format!("XTRIM {STREAM} MINID {}", entries[2])).await;
    let trimmed = |found| Damage::Trimmed { expected: 4, found };
    assert_eq!(damage(store.fetch(&tenant(), id(2), None).await), trimmed(3));
    let _: u64 = world.ask(&format!("XDEL {STREAM} {}", entries[4])).await;
    assert!(matches!(damage(store.fetch(&tenant(), id(2), None).await), Damage::Trimmed { .. }));
    let _: u64 = world.ask(&format!("XDEL {STREAM} {} {}", entries[2], entries[3])).await;
    assert_eq!(damage(store.fetch(&tenant(), id(2), None).await), trimmed(0));
    assert!(store.fetch(&tenant(), id(3), None).await.is_ok(), "its neighbour is whole");
    // The list leaves out what has gone, and forgets it.
    assert_eq!(all(&store).await, [3]);
    world.assert_exact().await;
    assert!(matches!(store.fetch(&tenant(), id(2), None).await, Err(TraceStoreError::NotFound { .. })));
}

#[tokio::test]
async fn the_last_entry_gone_an_index_without_stream_and_foreign_entries_are_refused() {
    let world = World::start().await;
    let store = world.store();
    let large = |n| run("tenant-1", id(n), 1, 65_536 * 2, |_| ());
    store.publish(&large(1)).await.unwrap();
    let reply: redis::streams::StreamRangeReply = world.ask(&format!("XRANGE {STREAM} - +")).await;
    let last = reply.ids.last().unwrap().id.clone();
    let _: u64 = world.ask(&format!("XDEL {STREAM} {last}")).await;
    assert_eq!(damage(store.fetch(&tenant(), id(1), None).await), Damage::Trimmed { expected: 3, found: 2 });
    let _: u64 = world.ask(&format!("DEL {STREAM}")).await;
    assert_eq!(damage(store.fetch(&tenant(), id(1), None).await), Damage::StreamGone);
    // Somebody wrote entries with those ids again, with other bytes, another name or no bytes.
    let ids: Vec<_> = reply.ids.iter().map(|entry| entry.id.as_str()).collect();
    let fill = async |n: &str, x: &str, d: &str| {
        let _: u64 = world.ask(&format!("DEL {STREAM}")).await;
        for (at, id) in ids.iter().enumerate() {
            let n = n.replace('#', &(at + 1).to_string());
            let _: String = world.ask(&format!("XADD {STREAM} {id} x {x} n {n} d {d}")).await;
        }
        damage(store.fetch(&tenant(), self::id(1), None).await)
    };
    let name = format!("{}.1", id(1));
    assert!(matches!(fill("#/3", "somebody", "d").await, Damage::ForeignEntry { .. }));
    assert!(matches!(fill("#/9", &name, "d").await, Damage::ForeignEntry { .. }));
    assert!(matches!(fill("#", &name, "d").await, Damage::ForeignEntry { .. }));
    assert!(matches!(fill("#/3", &name, "d").await, Damage::Truncated { .. }));
    assert!(matches!(fill("#/3", &name, &"d".repeat(200_000)).await, Damage::Surplus { .. }));
    let filled = async |chunks: [&str; 3]| {
        let _: u64 = world.ask(&format!("DEL {STREAM}")).await;
        for (at, (id, d)) in ids.iter().zip(chunks).enumerate() {
            let _: String = world.ask(&format!("XADD {STREAM} {id} x {name} n {}/3 d {d}", at + 1)).await;
        }
        damage(store.fetch(&tenant(), self::id(1), None).await)
    };
    let row: Vec<u8> = world.ask(&format!("HGET longshore-trace:i:{{tenant-1}} {name}")).await;
    let bytes: usize =
        String::from_utf8_lossy(row.splitn(7, |b| *b == b' ').nth(4).unwrap()).parse().unwrap();
    // As many bytes as there should be, in other chunks.
    let long = "d".repeat(bytes - 2);
    assert_eq!(filled(["d", "d", &long]).await, Damage::Digest);
    let _: u64 = world.ask(&format!("HSET longshore-trace:i:{{tenant-1}} {name} junk")).await;
    assert!(matches!(damage(store.fetch(&tenant(), id(1), None).await), Damage::Index { .. }));
}

#[tokio::test]
async fn the_row_of_another_run_is_refused() {
    let world = World::start().await;
    let store = world.store();
    store.publish(&small(1)).await.unwrap();
    let script = format!("redis.call('HSET',KEYS[1],'{}.1',redis.call('HGET',KEYS[1],'{}.1'))", id(2), id(1));
    let _: () = redis::cmd("EVAL")
        .arg(script)
        .arg(1)
        .arg("longshore-trace:i:{tenant-1}")
        .query_async(&mut world.connection.clone())
        .await
        .unwrap();
    let damage = damage(store.fetch(&tenant(), id(2), None).await);
    assert_eq!(damage, Damage::ForeignRun { expected: id(2), found: id(1), attempt: 1 });
}

#[tokio::test]
async fn the_list_is_newest_first_filtered_and_in_pages() {
    let world = World::start().await;
    let store = world.store();
    let traces: Vec<_> = (0..250_u8)
        .map(|n| {
            run("tenant-1", id(n), 1, 10, |header| {
                // Several begin in one millisecond.
                header.started_at_ms = 1_000 + u64::from(n / 4);
                Arc::make_mut(&mut header.run).context.extension =
                    if n % 2 == 0 { "even" } else { "odd" }.parse().unwrap();
                Arc::make_mut(&mut header.run).context.request_id = (n == 77).then(|| "seven".to_owned());
                Arc::make_mut(&mut header.run).context.content_hash = longshore_trace::digest(&[n % 3]);
            })
        })
        .collect();
    for result in store.publish_all(&traces).await.unwrap() {
        assert!(result.unwrap());
    }
    let expected: Vec<u8> = (0..250).rev().collect();
    assert_eq!(all(&store).await, expected);
    for limit in [1, 7, 100] {
        let (mut seen, mut cursor): (Vec<u8>, Option<Cursor>) = (Vec::new(), None);
        loop {
            let page = store.list(&tenant(), &Filter::default(), cursor.as_ref(), limit).await.unwrap();
            assert!(page.traces.len() <= limit);
            seen.extend(runs(&page.traces));
            match page.next {
                // Through its text, as a caller has it.
                Some(next) => cursor = Some(next.to_string().parse().unwrap()),
                None => break,
            }
        }
        assert_eq!(seen, expected, "pages of {limit}");
    }
    let filtered =
        async |filter: Filter| runs(&store.list(&tenant(), &filter, None, 1_000).await.unwrap().traces);
    let none = Filter::default;
    assert_eq!(filtered(Filter { request_id: Some("seven".into()), ..none() }).await, [77]);
    let even = Filter { extension: Some("even".parse().unwrap()), ..none() };
    assert_eq!(filtered(even).await.len(), 125);
    assert_eq!(filtered(Filter { since_ms: Some(1_062), ..none() }).await, [249, 248]);
    assert_eq!(filtered(Filter { until_ms: Some(1_000), ..none() }).await, [3, 2, 1, 0]);
    let one = Filter { since_ms: Some(1_001), until_ms: Some(1_001), ..none() };
    assert_eq!(filtered(one).await, [7, 6, 5, 4]);
    assert_eq!(filtered(Filter { failed: Some(true), ..none() }).await, Vec::<u8>::new());
    assert_eq!(filtered(Filter { failed: Some(false), ..none() }).await.len(), 250);
    assert_eq!(filtered(Filter { outcome: Some("timeout".into()), ..none() }).await, Vec::<u8>::new());
    let bundle = Filter { content_hash: Some(longshore_trace::digest(&[1])), ..none() };
    assert_eq!(filtered(bundle).await.len(), 83);
    let other = store.list(&"tenant-2".parse().unwrap(), &none(), None, 10).await.unwrap();
    assert_eq!((other.traces, other.next), (Vec::new(), None));
}

#[test]
fn a_cursor_that_is_none_is_refused() {
    for bad in ["", "x", "1", ".a", "1.a b", "-1.a", "1.\u{e4}", "18446744073709551616.a"] {
        assert!(matches!(bad.parse::<Cursor>(), Err(TraceStoreError::Cursor(_))), "{bad:?}");
    }
    assert!("1.*".repeat(1_000).parse::<Cursor>().unwrap_err().to_string().len() < 200);
}

#[tokio::test]
async fn a_tenants_or_an_extensions_traces_are_removed_and_nobody_elses() {
    let world = World::start().await;
    let store = world.store();
    let of = |tenant: &str, extension: &str, n| {
        run(tenant, id(n), 1, 10, |header| {
            Arc::make_mut(&mut header.run).context.extension = extension.parse().unwrap()
        })
    };
    let traces =
        [of("tenant-1", "a", 1), of("tenant-1", "b", 2), of("tenant-1", "a", 3), of("tenant-10", "a", 4)];
    store.publish_all(&traces).await.unwrap();
    assert_eq!(store.remove_extension(&tenant(), &"a".parse().unwrap()).await.unwrap(), 2);
    assert_eq!(all(&store).await, [2]);
    world.assert_exact().await;
    assert_eq!(store.remove_tenant(&tenant()).await.unwrap(), 1);
    assert_eq!(store.remove_tenant(&tenant()).await.unwrap(), 0);
    assert!(world.redis.keys().await.iter().all(|key| key.contains("{tenant-10}")));
    assert!(store.fetch(&"tenant-10".parse().unwrap(), id(4), None).await.is_ok());
}

#[tokio::test]
async fn a_server_that_restarts_or_loses_the_scripts_is_found_again() {
    let mut world = World::start().await;
    let store = world.store();
    store.publish(&small(1)).await.unwrap();
    let _: () = world.ask("SCRIPT FLUSH").await;
    // The first one after that finds out; the next has the scripts again.
    assert!(store.publish(&small(2)).await.is_err());
    assert!(store.publish(&small(2)).await.unwrap());
    world.redis.kill();
    let failed = store.publish(&small(3)).await.unwrap_err();
    assert!(
        matches!(failed, TraceStoreError::Redis(_)) && !failed.to_string().contains("127.0.0.1"),
        "{failed}"
    );
    assert!(store.ping().await.is_err());
    world.redis.start_again().await;
    // The old connection may be noticed to be gone only now.
    let _either = store.ping().await;
    assert!(store.publish(&small(3)).await.unwrap());
    assert_eq!(all(&store).await, [3]);
}

#[tokio::test]
async fn a_server_without_memory_takes_nothing_of_a_trace() {
    let world = World::start().await;
    let store = world.store();
    store.publish(&small(1)).await.unwrap();
    let _: () = world.ask("CONFIG SET maxmemory 1").await;
    assert!(store.publish(&run("tenant-1", id(2), 1, 200_000, |_| ())).await.is_err());
    let _: () = world.ask("CONFIG SET maxmemory 0").await;
    assert_eq!(all(&store).await, [1]);
    world.assert_exact().await;
}

#[tokio::test]
async fn entries_of_a_trace_that_never_came_go_when_they_are_old_and_the_oldest() {
    let world = World::start().await;
    let store = world.store();
    let nobodys = format!("x {}.1 n 1/1 d bytes", id(9));
    let _: String = world.ask(&format!("XADD {STREAM} 1000-1 {nobodys}")).await;
    let _: String = world.ask(&format!("XADD {STREAM} 1000-2 {nobodys}")).await;
    let young: String = world.ask(&format!("XADD {STREAM} * {nobodys}")).await;
    store.publish(&small(1)).await.unwrap();
    let reply: redis::streams::StreamRangeReply = world.ask(&format!("XRANGE {STREAM} - +")).await;
    let ids: Vec<_> = reply.ids.iter().map(|entry| &entry.id).collect();
    assert_eq!((ids.len(), ids[0]), (2, &young), "one may still be on its way");
    assert_eq!(all(&store).await, [1]);
    // What is there but for it is counted as ever.
    let _: u64 = world.ask(&format!("XDEL {STREAM} {young}")).await;
    world.assert_exact().await;
}

#[tokio::test]
async fn workers_that_write_large_traces_at_once_do_not_mix_their_entries() {
    let world = World::start().await;
    let large = |n| run("tenant-1", id(n), 1, 65_536 * 3, |header| header.started_at_ms += u64::from(n));
    let writers = (0..4_u8).map(|writer| {
        let store = world.store();
        tokio::spawn(async move {
            let traces: Vec<_> = (1..=5).map(|n| large(writer * 5 + n)).collect();
            let results = store.publish_all(&traces).await.unwrap();
            assert!(results.into_iter().all(|result| result.unwrap()));
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let store = world.store();
    for n in 1..=20 {
        assert!(store.fetch(&tenant(), id(n), None).await.is_ok(), "{n}");
    }
    world.assert_exact().await;
}
