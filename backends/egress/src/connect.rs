//! One new connection: resolve once, check what was found, connect to nothing else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tower::{Service as _, service_fn};
use url::Host;

use crate::body::SentBody;
use crate::error::{BoxError, EgressError, EgressSetupError, Stage};
use crate::policy::Policy;
use crate::pool::Conn;
use crate::resolve::Resolve;
use crate::stats::{Counters, Open};
use crate::target::Target;

/// Addresses of one name that are tried. Large sites have eight; a resolver that answers with thousands is hostile.
const MAX_ADDRESSES: usize = 16;

/// Makes connections.
pub(crate) struct Dialer {
    tls: Arc<ClientConfig>,
    resolver: Arc<dyn Resolve>,
    header_bytes: usize,
    counters: Arc<Counters>,
}

/// Why there is no connection: an error, or the time is up. What that time was is the caller's to say.
pub(crate) enum DialError {
    Late,
    Failed(EgressError),
}

impl From<EgressError> for DialError {
    fn from(error: EgressError) -> Self {
        Self::Failed(error)
    }
}

impl Dialer {
    pub(crate) fn new(
        resolver: Arc<dyn Resolve>,
        header_bytes: usize,
        counters: Arc<Counters>,
    ) -> Result<Self, EgressSetupError> {
        // The provider is named rather than the process's: a library cannot know whether that is installed.
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(EgressSetupError::Tls)?
            .with_native_roots()
            .map_err(EgressSetupError::Roots)?
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), resolver, header_bytes, counters })
    }

    /// A connection that holds `permit` for as long as it is open.
    pub(crate) async fn dial(
        &self,
        policy: &Policy<'_>,
        target: &Target,
        permit: OwnedSemaphorePermit,
        until: Instant,
    ) -> Result<Conn, DialError> {
        let (found, permit) = self.find(target, permit, until).await?;
        let allowed = policy.sift(target, &found).map_err(EgressError::NotAllowed)?;
        let tcp = reach(&allowed, until).await?;
        let failed = |source: io::Error| EgressError::Connect { stage: Stage::Tls, source };

        // hyper-rustls does the handshake over the stream made above; it is given no other way to connect.
        let mut made = Some(TokioIo::new(tcp));
        let stream = service_fn(move |_: http::Uri| {
            std::future::ready(
                made.take().ok_or_else(|| io::Error::other("a second connection was asked for")),
            )
        });
        let connected = HttpsConnector::from((stream, self.tls.clone())).call(target.uri("/")?);
        let io = match timeout_at(until, connected).await {
            Ok(io) => io.map_err(|e| failed(into_io(e)))?,
            Err(_) => return Err(DialError::Late),
        };
        // HTTP/1 makes neither round trip nor wait here.
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_header_size(self.header_bytes)
            .handshake::<_, SentBody>(io)
            .await
            .map_err(|e| EgressError::Transport(e.into()))?;
        // Dropped in this order: whoever gets the permit finds the connection counted as gone.
        let held = (Open::new(&self.counters), permit);
        let task = tokio::spawn(async move {
            let _held = held;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an outbound connection ended");
            }
        });
        Ok(Conn { sender, task: task.abort_handle() })
    }

    /// The addresses of the target. A lookup that outlasts the request goes on holding the tenant's permit, so that a
    /// tenant with slow names can have no more lookups going than connections.
    async fn find(
        &self,
        target: &Target,
        permit: OwnedSemaphorePermit,
        until: Instant,
    ) -> Result<(Vec<SocketAddr>, OwnedSemaphorePermit), DialError> {
        let name = match &target.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => {
                return Ok((vec![SocketAddr::new((*address).into(), target.port)], permit));
            }
            Host::Ipv6(address) => {
                return Ok((vec![SocketAddr::new((*address).into(), target.port)], permit));
            }
        };
        let (resolver, port) = (self.resolver.clone(), target.port);
        let lookup = tokio::spawn(async move { (resolver.resolve(&name, port).await, permit) });
        let failed = |source| EgressError::Connect { stage: Stage::Resolve, source };
        let (found, permit) = match timeout_at(until, lookup).await {
            Ok(joined) => joined.map_err(|e| failed(io::Error::other(e)))?,
            Err(_) => return Err(DialError::Late),
        };
        let mut found = found.map_err(failed)?;
        found.truncate(MAX_ADDRESSES);
        if found.is_empty() {
            return Err(failed(io::Error::new(io::ErrorKind::NotFound, "no address")).into());
        }
        Ok((found, permit))
    }
}

/// The first of the addresses that accepts. Each gets an equal share of the time that is left, so that one that swallows
/// packets does not keep the others from being tried.
async fn reach(addresses: &[SocketAddr], until: Instant) -> Result<TcpStream, DialError> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for (tried, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1).max(1);
        match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it a small request can wait for the answer to an acknowledgement; an error here costs nothing else.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) if Instant::now() >= until => return Err(DialError::Late),
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(EgressError::Connect { stage: Stage::Tcp, source: last }.into())
}

fn into_io(error: BoxError) -> io::Error {
    match error.downcast::<io::Error>() {
        Ok(io) => *io,
        Err(other) => io::Error::other(other),
    }
}
