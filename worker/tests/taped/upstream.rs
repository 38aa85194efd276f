//! A server that answers by the path: at once, slowly, in pieces, or not to the end.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Its address. It ends with the test's runtime.
pub async fn start() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = serve(stream).await;
            });
        }
    });
    address
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut read = Vec::new();
    let head = loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
        if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            break String::from_utf8_lossy(&read[..end]).to_lowercase();
        }
    };
    if head.starts_with("post") {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: Option<usize> = length.map(|n| n.trim().parse().unwrap());
        let body_at = head.len() + 4;
        loop {
            let body = &read[body_at..];
            let whole = match length {
                Some(length) => body.len() >= length,
                None => body.ends_with(b"\r\n\r\n") || body.ends_with(b"0\r\n\r\n"),
            };
            if whole {
                break;
            }
            // Slower than the guest writes.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut piece = vec![0; 16 << 10];
            let got = stream.read(&mut piece).await?;
            if got == 0 {
                return Ok(());
            }
            read.extend_from_slice(&piece[..got]);
        }
    }
    let path = head.split(' ').nth(1).unwrap_or_default();
    let pieces = |count: usize, bytes: usize| -> Vec<Vec<u8>> {
        (0..count).map(|i| vec![b'a' + u8::try_from(i % 26).unwrap(); bytes]).collect()
    };
    match path {
        "/post" => chunked(&mut stream, &[b"taken".to_vec()], "x-sum: 1\r\nx-sum: 2\r\n").await,
        "/parts" => chunked(&mut stream, &pieces(6, 2_500), "").await,
        "/relay" => chunked(&mut stream, &pieces(12, 30_000), "").await,
        "/drop" => chunked(&mut stream, &pieces(40, 30_000), "").await,
        "/splice" => whole(&mut stream, &(b'0'..=b'z').cycle().take(40_000).collect::<Vec<_>>()).await,
        "/a" => {
            tokio::time::sleep(Duration::from_millis(10)).await;
            whole(&mut stream, b"a").await
        }
        "/error" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await?;
            stream.write_all(&[b'e'; 150]).await
        }
        _ => whole(&mut stream, b"hello").await,
    }
}

async fn whole(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nx-id: 7\r\nx-b: \u{fc}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await
}

async fn chunked(stream: &mut TcpStream, pieces: &[Vec<u8>], trailers: &str) -> std::io::Result<()> {
    stream
        .write_all(
            b"HTTP/1.1 201 Made\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\nconnection: close\r\n\r\n",
        )
        .await?;
    for piece in pieces {
        tokio::time::sleep(Duration::from_millis(3)).await;
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        stream.write_all(piece).await?;
        stream.write_all(b"\r\n").await?;
    }
    stream.write_all(format!("0\r\n{trailers}\r\n").as_bytes()).await
}
