//! The clients against the stub platform.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod faults;
mod invoicing;
mod read;
mod scheduler;
mod storage;
mod ui_proxy;
mod wire;

use longshore_platform::{Caller, Platform, PlatformConfig};
use longshore_service::config::Secret;
use longshore_service::upstream::Upstream;
use longshore_stub_platform::{Options, Seed, StubPlatform};

const TOKEN: &str = "the-runner-token";
const CALLER: Caller<'static> =
    Caller { install: "5b7b5e6c-3c0f-4a4e-8a53-0a4b6cb1b7a1", request_id: Some("req-1") };

/// A stub with a seed, and a client of it.
async fn start_with(seed: Seed) -> (StubPlatform, Platform) {
    let options = Options { token: Some(TOKEN.to_owned()), seed, ..Options::default() };
    let stub = StubPlatform::start(options).await.unwrap();
    let platform = client(&stub.base_url(), TOKEN);
    (stub, platform)
}

async fn start() -> (StubPlatform, Platform) {
    start_with(Seed::sample()).await
}

fn client(base: &str, token: &str) -> Platform {
    let config = PlatformConfig { base: base.parse().unwrap(), token: Some(Secret::new(token)) };
    Platform::new(&config, Upstream::new().unwrap()).unwrap()
}
