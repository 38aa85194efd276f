//! Traces and logs arrive at a collector, made of a socket. A program of its own, since logging is set up once a process.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};

use longshore_service::config::TelemetryConfig;
use longshore_service::telemetry;

/// Path, content type and body of one request.
type Received = (String, String, Vec<u8>);

#[test]
fn spans_and_lines_arrive_as_protobuf() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || serve(stream.unwrap(), &sender));
        }
    });
    let env = BTreeMap::from([
        ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), endpoint),
        ("OTEL_SERVICE_NAME".to_owned(), "service-of-the-test".to_owned()),
        ("LONGSHORE_LOG_FORMAT".to_owned(), "json".to_owned()),
    ]);
    let config = TelemetryConfig::load(&env, ["test".to_owned()]).unwrap();
    // No tokio runtime anywhere: the exporters bring their own.
    let guard = telemetry::init("test", &config).unwrap();
    let headers = tracing::info_span!("span_of_the_test", call = 7).in_scope(|| {
        tracing::info!(answer = 42, "line of the test");
        tracing::debug!("not logged, not exported");
        telemetry::inject(&tracing::Span::current())
    });
    assert!(
        headers.iter().any(|(key, value)| key == "traceparent" && value.starts_with("00-")),
        "{headers:?}"
    );
    guard.shutdown();

    let requests: Vec<Received> = received.try_iter().collect();
    let find = |path: &str| {
        let (_, content_type, body) = requests.iter().find(|(p, ..)| p == path).expect(path);
        assert_eq!(content_type, "application/x-protobuf");
        body.clone()
    };
    let contains = |body: &[u8], text: &str| body.windows(text.len()).any(|part| part == text.as_bytes());
    let traces = find("/v1/traces");
    assert!(contains(&traces, "span_of_the_test") && contains(&traces, "service-of-the-test"));
    let logs = find("/v1/logs");
    // The line knows its trace: the id in the header is the one in the record.
    let parent = &headers.iter().find(|(key, _)| key == "traceparent").unwrap().1;
    let id = u128::from_str_radix(parent.split('-').nth(1).unwrap(), 16).unwrap().to_be_bytes();
    assert!(logs.windows(16).any(|part| part == id) && traces.windows(16).any(|part| part == id));
    assert!(contains(&logs, "line of the test") && !contains(&logs, "not exported"));
}

/// Reads requests until the client goes, answering each with an empty 200.
fn serve(mut stream: TcpStream, received: &Sender<Received>) {
    let mut buffer = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            if !fill(&mut stream, &mut buffer) {
                return;
            }
        };
        let head = String::from_utf8(buffer.drain(..head_end).collect()).unwrap();
        let field = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
            line.map(|line| line.split_once(':').unwrap().1.trim().to_owned()).unwrap_or_default()
        };
        let length: usize = field("content-length").parse().unwrap();
        while buffer.len() < length {
            assert!(fill(&mut stream, &mut buffer), "the body was cut");
        }
        let body = buffer.drain(..length).collect();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        received.send((path, field("content-type"), body)).unwrap();
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n",
            )
            .unwrap();
    }
}

fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let mut part = [0; 4096];
    match stream.read(&mut part) {
        Ok(read @ 1..) => {
            buffer.extend_from_slice(&part[..read]);
            true
        }
        _ => false,
    }
}
