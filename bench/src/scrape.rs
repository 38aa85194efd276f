//! Reads the metrics of a process.

use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The page of metrics of the process at `address`.
pub async fn page(address: SocketAddr) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await.context("cannot connect to the worker's metrics")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors are the errors of the one request on it.
    tokio::spawn(async move { connection.await.ok() });
    let request = Request::get("/metrics").header(HOST, "longshore-bench").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status() == 200, "metrics: status {}", response.status());
    let bytes = response.into_body().collect().await?.to_bytes();
    String::from_utf8(bytes.into()).context("metrics are no text")
}

/// The sum of a metric's samples, whatever their labels.
///
/// # Errors
/// There is none of this name: a renamed metric must not look like nothing lost.
pub fn sum(page: &str, name: &str) -> anyhow::Result<u64> {
    let samples: Vec<f64> = page
        .lines()
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let own = series.split_once('{').map_or(series, |(own, _)| own);
            (own == name).then(|| value.parse().ok()).flatten()
        })
        .collect();
    anyhow::ensure!(!samples.is_empty(), "the worker has no metric {name}");
    // Counters are whole numbers below 2^53.
    Ok(samples.iter().sum::<f64>() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_name_are_added_and_a_name_that_is_not_there_is_an_error() {
        let page = "# TYPE a counter\na{b=\"c d\"} 2\na{b=\"e\"} 3\nab 100\n";
        assert_eq!(sum(page, "a").unwrap(), 5);
        assert_eq!(sum(page, "ab").unwrap(), 100);
        let error = sum(page, "abc").unwrap_err().to_string();
        assert!(error.contains("abc"), "{error}");
    }
}
