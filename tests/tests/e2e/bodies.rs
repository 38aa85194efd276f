//! Bodies that fit into no NATS message.

use longshore_tests::{Call, Extension, Service, Stack, wait};
use sha2::{Digest as _, Sha256};

use super::load::Load;

const TEN_MIB: usize = 10 << 20;

/// Byte i is i modulo 251, a prime: a swapped or repeated chunk shows.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..251).cycle().take(bytes).collect()
}

/// How many runs a worker has ended well.
fn executed(worker: &Service) -> usize {
    worker.lines().with("\"message\":\"executed\"").len()
}

fn digest(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A call with a body of `sent` bytes that wants one of `wanted` bytes back.
fn both_ways(extension: &Extension, method: &str, sent: &[u8], wanted: usize) -> Call {
    extension.call(method, format!("/?check&bytes={wanted}")).body(sent).timeout_ms(60_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_ten_mebibytes_travel_both_ways() {
    let (stack, [_worker], shim) = Stack::with_workers(&[]).await;
    let (big, echo) = (stack.install("tenant-1", "big-body"), stack.install("tenant-1", "echo"));
    // Around the sizes at which a body leaves its message, and at which a fetch has another part.
    for bytes in [0, 1, 400 << 10, (512 << 10) - 1, 512 << 10, (1 << 20) + 1, 3_000_001, TEN_MIB] {
        let body = pattern(bytes);
        let reply = shim.call(&both_ways(&big, "POST", &body, bytes)).await;
        assert_eq!(reply.body().unwrap_or_else(|| panic!("{bytes}: no body")), body, "{bytes} bytes back");
        assert_eq!(reply.guest_header("x-body-length"), Some(bytes.to_string()));
        assert_eq!(reply.guest_header("x-body-sha256"), Some(digest(&body)), "{bytes} bytes there");
    }
    // One that is no pattern.
    let noise: Vec<u8> = (0..TEN_MIB as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let reply = shim.call(&echo.post("/?raw").body(&noise).timeout_ms(60_000)).await;
    assert!(reply.body().unwrap() == noise, "the bytes that came back are others");

    let too_large = shim.call(&echo.post("/?raw").body(&vec![0; (16 << 20) + 4])).await;
    let (status, error) = too_large.failure();
    assert!(status == 413 && error.starts_with("payload_too_large"), "{error}");
    // What was kept for these bodies is given back.
    shim.metric_until("longshore_shim_body_bytes_in_flight", |bytes| bytes == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_fetched_again_when_the_worker_that_had_it_is_lost() {
    let (stack, [mut killed, other], shim) = Stack::with_workers::<2>(&[]).await;
    // A tenant may hold a quarter of the shim's bytes: three such calls each.
    let tenants = ["a", "b", "c", "d"].map(|tenant| stack.install(tenant, "big-body"));
    let body = pattern(TEN_MIB);
    assert_eq!(shim.call(&both_ways(&tenants[0], "GET", &body, 100)).await.status(), 200);
    // Calls without a pause, so that some are with the worker when it dies, in whichever stage.
    let mut load =
        Load::start(shim.http(), (0..12).map(|n: usize| both_ways(&tenants[n % 4], "GET", &body, TEN_MIB)));
    wait::until("a run on the worker that dies", wait::LIMIT, async || {
        if executed(&killed) >= 2 { Ok(()) } else { Err("none") }
    })
    .await;
    killed.kill();
    let (mut whole, mut broken) = (0, 0);
    while let Some((number, outcome)) = load.next().await {
        match outcome {
            Ok(reply) => {
                assert_eq!(reply.outcome(), "ok", "call {number}");
                assert_eq!(reply.guest_header("x-body-sha256"), Some(digest(&body)), "call {number}");
                assert!(reply.body().unwrap() == body, "call {number}: spliced");
                whole += 1;
            }
            // The response had begun: it is reset, never spliced.
            Err(error) => {
                assert!(!error.refused && !error.why.contains("hangs"), "call {number}: {error:?}");
                broken += 1;
            }
        }
    }
    assert_eq!(whole + broken, 12);
    assert!(broken <= 6, "{broken} of 12 responses had begun and were broken");
    // Each call that was lost ran again, with its whole body.
    let second = other.lines().with("\"attempt\":2");
    assert!(!second.is_empty(), "no call had a second attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_under_way_survive_a_restart_of_nats() {
    let (mut stack, [worker], shim) = Stack::with_workers(&[]).await;
    let tenants = ["a", "b", "c", "d"].map(|tenant| stack.install(tenant, "big-body"));
    let body = pattern(TEN_MIB);
    assert_eq!(shim.call(&both_ways(&tenants[0], "POST", &body, 100)).await.status(), 200);
    let mut load =
        Load::start(shim.http(), (0..8).map(|n: usize| both_ways(&tenants[n % 4], "POST", &body, TEN_MIB)));
    wait::until("the first of eight runs", wait::LIMIT, async || {
        if executed(&worker) >= 2 { Ok(()) } else { Err("none") }
    })
    .await;
    // Some bodies are on their way there, some back.
    stack.nats.kill();
    stack.nats.start_again().await;
    while let Some((number, outcome)) = load.next().await {
        let reply = outcome.unwrap_or_else(|error| panic!("call {number}: {error:?}"));
        assert_eq!(reply.outcome(), "ok", "call {number}");
        assert_eq!(reply.guest_header("x-body-sha256"), Some(digest(&body)), "call {number}");
        assert!(reply.body().unwrap() == body, "call {number}: another body came back");
    }
    assert_eq!(executed(&worker), 9, "each ran once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_worker_gives_its_large_answers_away_first() {
    let (stack, [mut leaving, _other], shim) = Stack::with_workers::<2>(&[]).await;
    let tenants = ["a", "b", "c", "d"].map(|tenant| stack.install(tenant, "big-body"));
    let body = pattern(TEN_MIB);
    assert_eq!(shim.call(&both_ways(&tenants[0], "POST", &body, 100)).await.status(), 200);
    let load =
        Load::start(shim.http(), (0..12).map(|n: usize| both_ways(&tenants[n % 4], "POST", &body, TEN_MIB)));
    wait::until("a run on the worker that leaves", wait::LIMIT, async || {
        if executed(&leaving) >= 2 { Ok(()) } else { Err("none") }
    })
    .await;
    leaving.terminate();
    for (number, outcome) in load.all().await.into_iter().enumerate() {
        let reply = outcome.unwrap_or_else(|error| panic!("call {number}: {error:?}"));
        assert!(reply.body().unwrap() == body, "call {number}: another body came back");
    }
    leaving.drained(wait::LIMIT).await;
}
