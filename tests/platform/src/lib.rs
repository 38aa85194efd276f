//! A platform for tests and laptops: the registry (interop 6.1, 6.2), the internal APIs of 6.3 and a few public routes behind the UI proxy (6.4), with
//! the limits, error bodies and mistakes of the real one, in memory and from a seed file.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use longshore_stub_platform::{Fault, Options, StubPlatform};
//!
//! let stub = StubPlatform::start(Options { token: Some("runner-token".to_owned()), ..Options::default() }).await?;
//! stub.fail_next("storage", "get", Fault::Status(503, "{}".to_owned()));
//! // ... something calls stub.base_url() ...
//! assert!(stub.requests().is_empty());
//! # Ok(())
//! # }
//! ```

mod answer;
mod fault;
mod fields;
mod invoicing;
mod read;
mod record;
mod registry;
mod rest;
mod scheduler;
mod seed;
mod serve;
mod state;
mod storage;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

pub use fault::Fault;
pub use record::Recorded;
pub use seed::{Client, Endpoint, RegistryInstall, Seed, SeedError, Service};

/// How a stub platform is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens: a loopback address; port 0 takes any that is free.
    pub addr: SocketAddr,
    /// What `x-runner-auth` must be. Absent: anything will do.
    pub token: Option<String>,
    /// What there is at the start.
    pub seed: Seed,
    /// What `x-api-key` must be on the public routes. Absent: anything will do.
    pub api_key: Option<String>,
    /// How many requests [`StubPlatform::requests`] remembers; the oldest are forgotten.
    pub remember: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: None,
            seed: Seed::sample(),
            api_key: None,
            remember: 2_000,
        }
    }
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Anybody could read and write a tenant's data: it knows no real secret.
    #[error("a stub platform listens on loopback addresses only, not on {0}")]
    NotLoopback(SocketAddr),
    /// The address is taken or none.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] std::io::Error),
}

/// A running stub platform. Dropping it closes its listener and connections.
pub struct StubPlatform {
    addr: SocketAddr,
    shared: Arc<serve::Shared>,
    _stop: watch::Sender<bool>,
}

impl std::fmt::Debug for StubPlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StubPlatform").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl StubPlatform {
    /// Starts one.
    ///
    /// # Errors
    /// The address is not loopback or taken.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        if !options.addr.ip().is_loopback() {
            return Err(StartError::NotLoopback(options.addr));
        }
        let listen = |e| StartError::Listen(options.addr, e);
        let listener = TcpListener::bind(options.addr).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let (stop, stopped) = watch::channel(false);
        let shared = Arc::new(serve::Shared::new(options, stopped.clone()));
        tokio::spawn(serve::run(listener, shared.clone(), stopped));
        Ok(Self { addr, shared, _stop: stop })
    }

    /// Where it is: `http://127.0.0.1:<port>`. For `STORAGE_API_BASE_URL` and `UI_PROXY_BASE_URL`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The next request to this operation is answered with a fault. `api` is `storage`, `scheduler`, `invoicing`, `clients`,
    /// `services`, `registry` or `rest`; `operation` is the body's, `validate`, `lookup-by-host` or `install-config` for `registry`, or the
    /// path for `rest`; `*` stands for any. Faults for the same operation come one after the other.
    pub fn fail_next(&self, api: &str, operation: &str, fault: Fault) {
        self.shared.faults.lock().push(api, operation, fault);
    }

    /// Every request that has arrived, refused ones too, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.records.lock().all()
    }

    /// Forgets the requests.
    pub fn forget_requests(&self) {
        self.shared.records.lock().clear();
    }
}
