//! The gateway route beside `/v1/execute`: the same guest, worker and shim, called the one way and the other.
//!
//! By `/api/ext` a caller has a token and names an extension; the shim finds out whose it is, which install is meant, what
//! that may do and whether the manifest declares the path. By `/v1/execute` the caller says all that itself.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use hyper::header::HeaderValue;
use longshore_access::{Access, NewToken, TokenStore};
use longshore_proto::install::{Install, InstalledVersion};
use longshore_proto::manifest::Manifest;
use longshore_registry::{Installs, NatsRegistry};
use longshore_service::lifecycle::Tasks;
use longshore_service::metrics::Metrics;
use serde::Serialize;
use serde_json::json;

use crate::fleet::{EXTENSION, Fleet, INSTALL, Kind, MANIFEST, TENANT, User};
use crate::load::{Connection, Route, Target};
use crate::measure::{Side, compare};
use crate::options::Options;
use crate::report::{Compared, Report, cell, comparison};
use crate::stats::{Round, Spread, ratio};

/// A shim hears of installs and tokens within a second, once their buckets are there.
const KNOWN: Duration = Duration::from_secs(30);
/// Between two looks whether it has.
const POLL: Duration = Duration::from_millis(50);

/// All rounds at one number of connections.
#[derive(Debug, Serialize)]
pub struct Level {
    /// Connections.
    pub connections: usize,
    /// `/v1/execute`.
    pub execute: Vec<Round>,
    /// `/api/ext`, in the same rounds.
    pub route: Vec<Round>,
}

/// Measures with a fleet of its own.
pub async fn measure(options: &Options, first_failure: &mut Option<String>) -> anyhow::Result<Vec<Level>> {
    eprintln!("starting a worker with hello-rust, then installing it for calls with a token");
    let (fleet, _) = Fleet::start(Kind::Worker(&options.set)).await.context("the fleet")?;
    let route = install(&fleet).await.context("the install")?;
    // With a token there is no user, so the guest must not find one the other way either.
    let sides = [Side::new(&fleet, fleet.execute(User::None)), Side::new(&fleet, route)];
    let mut levels = Vec::new();
    for connections in &options.connections {
        let connections = connections.get();
        let [execute, route] = compare(&sides, connections, options, first_failure).await?;
        levels.push(Level { connections, execute, route });
    }
    Ok(levels)
}

/// Makes the install and a token as the admin service does, and waits until the shim knows both.
async fn install(fleet: &Fleet) -> anyhow::Result<Target> {
    let (client, link) = fleet.server().connect("control").await?;
    let tokens = TokenStore::new(client.clone(), link.clone(), 1);
    tokens.prepare().await?;
    let registry =
        NatsRegistry::start(client.clone(), link.clone(), &Tasks::new(), &Metrics::new("bench"), None);
    let installs = Installs::new(client, link, registry.clone(), 1);
    installs.prepare().await?;
    tokio::time::timeout(KNOWN, registry.ready()).await.context("the bucket was not read")?;
    installs.create_or_update(hello_rust(fleet)?).await?;
    let new = NewToken {
        tenant: TENANT.parse().context("tenant")?,
        access: Access::Read,
        extensions: None,
        label: "bench".to_owned(),
        lifetime: None,
        created_by: "longshore-bench".to_owned(),
        traces: false,
    };
    let (token, _) = tokens.create(new).await?;
    let mut authorization = HeaderValue::try_from(format!("Bearer {}", token.expose()))?;
    authorization.set_sensitive(true);
    let route = Route::Extension { path: format!("/api/ext/{EXTENSION}/hello"), authorization };
    let target = Target { address: fleet.address(), route };
    let began = Instant::now();
    loop {
        match Connection::open(target.clone()).await?.exchange().await {
            Ok(_) => return Ok(target),
            Err(error) if began.elapsed() > KNOWN => {
                return Err(error.context("the shim does not know the install"));
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

fn hello_rust(fleet: &Fleet) -> anyhow::Result<Install> {
    let hash = fleet.key().hash;
    let manifest = Manifest::parse(MANIFEST)?;
    let base = json!({
        "install_id": INSTALL, "tenant": TENANT, "extension": EXTENSION, "version_id": "bench", "content_hash": hash,
        "capabilities": manifest.capabilities,
    });
    let mut install: Install = serde_json::from_value(base)?;
    install.version = InstalledVersion::of(&manifest, hash);
    Ok(install)
}

/// What is printed.
pub fn table(report: &Report) -> String {
    let mut text = String::from(
        "\nhello-rust by /api/ext (token, install, endpoint) beside /v1/execute, on one shim and worker.\n",
    );
    let compared = report.gateway.iter().map(|level| {
        let sides = [("/v1/execute", level.execute.as_slice()), ("/api/ext", level.route.as_slice())];
        Compared { connections: level.connections, sides }
    });
    text.push_str(&comparison(report, "called by", &compared.collect::<Vec<_>>()));
    for level in &report.gateway {
        let p50 = ratio(&level.route, &level.execute, |round| round.p50_us);
        let of_shim = |round: &Round| round.cpu_us_per_call.get("shim").copied().unwrap_or(0.0);
        let added =
            level.route.iter().zip(&level.execute).map(|(route, execute)| of_shim(route) - of_shim(execute));
        text.push_str(&format!(
            "\np50 of /api/ext at {} connection(s): {} times /v1/execute; CPU of the shim by call: {} us added\n",
            level.connections,
            cell(p50, 2),
            cell(Spread::of(added), 0)
        ));
    }
    text
}
