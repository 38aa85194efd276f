//! Which port a server gets.

use std::net::Ipv4Addr;

use anyhow::Context as _;
use tokio::net::TcpListener;

/// How many ports after the wished one are tried.
const TRIES: u16 = 50;

/// Binds the port, or says which option and variable name another.
pub(super) async fn bind(what: &str, port: u16, flag: &str, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "port {port} on 127.0.0.1, which {what} needs, is in use: end what uses it (`ss -ltnp 'sport = :{port}'` names it), \
             or name another by `{flag} PORT` or {variable}=PORT, or take free ones for everything by `--ports auto`"
        ),
        _ => anyhow::Error::new(error).context(format!("cannot listen on 127.0.0.1:{port} for {what}")),
    })
}

/// Any free port. It may be taken by another process before it is used; who uses it tries again.
pub(super) async fn any() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr().context("a listener has no address")?.port())
}

/// The wished port if it is free, else the next that is.
pub(super) async fn next_free(wished: u16) -> anyhow::Result<u16> {
    for port in wished..=wished.saturating_add(TRIES) {
        // Also on all addresses: a server there would answer for loopback.
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.is_ok()
            && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.is_ok()
        {
            return Ok(port);
        }
    }
    anyhow::bail!("ports {wished} to {} on 127.0.0.1 are all in use", wished.saturating_add(TRIES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind("the bundle store", port, "--s3-port", "LONGSHORE_DEV_S3_PORT").await.unwrap_err();
        let error = error.to_string();
        for part in [&port.to_string(), "the bundle store", "--s3-port PORT", "LONGSHORE_DEV_S3_PORT=PORT"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[tokio::test]
    async fn the_next_free_port_is_taken_where_the_wished_one_is_in_use() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let next = next_free(port).await.unwrap();
        assert!(next > port && next <= port + TRIES, "{next}");
    }
}
