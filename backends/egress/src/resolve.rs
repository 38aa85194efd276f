//! Name resolution: a seam, so that tests can answer as a hostile resolver does.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};

use tokio::sync::Semaphore;

/// Lookups of this process at one time. The system's resolver blocks a thread for as long as a name server makes it wait;
/// tokio has 512 of them, and others need some too. A tenant's lookups take its connections (32), so that eight tenants with
/// names that never answer are needed to make others wait.
static LOOKUPS: Semaphore = Semaphore::const_new(256);

/// Finds the addresses of a name. Asked once for every new connection; what it answers is checked and connected to.
#[async_trait::async_trait]
pub trait Resolve: Send + Sync {
    /// All addresses of `host`, each with `port`.
    ///
    /// # Errors
    /// When the name does not resolve.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver: hosts file, search domains and all.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait::async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let turn = LOOKUPS.acquire().await.map_err(io::Error::other)?;
        let host = host.to_owned();
        tokio::task::spawn_blocking(move || {
            let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
            drop(turn);
            found
        })
        .await
        .map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_knows_localhost_and_the_port_is_kept() {
        let found = SystemResolver.resolve("localhost", 81).await.unwrap();
        assert!(!found.is_empty() && found.iter().all(|a| a.ip().is_loopback() && a.port() == 81));
    }
}
