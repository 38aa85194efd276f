//! `--healthcheck`: the program asks its running twin whether it lives, so that an image needs no HTTP client for it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// For everything together.
const LIMIT: Duration = Duration::from_secs(2);

/// Asks `GET /livez` at `address` (an unspecified one means this machine): success when it answers 200 within 2 s, otherwise a line on
/// stderr and failure.
pub fn healthcheck(address: SocketAddr) -> ExitCode {
    match ask(address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "unhealthy: {address}/livez: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ask(mut address: SocketAddr) -> io::Result<()> {
    let deadline = Instant::now() + LIMIT;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(
        format!("GET /livez HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    // The status line is all that matters; a trickle of bytes must not outlast the limit.
    while !answer.contains(&b'\n') && answer.len() < 1024 {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let mut part = [0; 256];
        let read = stream.read(&mut part)?;
        if read == 0 {
            break;
        }
        answer.extend(part.iter().take(read));
    }
    let line =
        String::from_utf8_lossy(answer.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    match line.split_whitespace().nth(1) {
        Some("200") => Ok(()),
        _ => Err(io::Error::other(format!("answered {:?}", line.trim_end()))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn only_a_200_is_healthy() {
        ask(answering("HTTP/1.1 200 OK\r\n\r\nok")).unwrap();
        for wrong in ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.1\r\n", "SSH-2.0 200x\r\n", ""] {
            ask(answering(wrong)).unwrap_err();
        }
    }

    #[test]
    fn an_unspecified_address_means_this_machine() {
        let mut address = answering("HTTP/1.1 200 OK\r\n\r\n");
        address.set_ip(Ipv4Addr::UNSPECIFIED.into());
        ask(address).unwrap();
    }

    #[test]
    fn nobody_listening_is_unhealthy_and_so_is_a_server_that_never_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let started = Instant::now();
        ask(address).unwrap_err();
        assert!(started.elapsed() < LIMIT * 2, "{:?}", started.elapsed());
        drop(listener);
        ask(address).unwrap_err();
    }
}
