//! Answers in every way that `wasi:http` has, by `?kind=`: see the README.

use http::bindings::alga::extension::logging;
use http::bindings::wasi::clocks::monotonic_clock;
use http::bindings::wasi::http::types::OutgoingRequest;
use http::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam, begin, fields,
    parameter, write,
};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let url = request.path_with_query().unwrap_or_default();
    let number =
        |name: &str, default: usize| parameter(&url, name).and_then(|n| n.parse().ok()).unwrap_or(default);
    let status = number("status", 200) as u16;
    match parameter(&url, "kind").unwrap_or("plain") {
        "plain" => finish(begin(out, status, Fields::new()), b"plain"),
        "empty" => {
            let response = OutgoingResponse::new(Fields::new());
            response.set_status_code(status).expect("a status");
            ResponseOutparam::set(out, Ok(response));
        }
        "stream" => stream(begin(out, status, Fields::new()), number("bytes", usize::MAX)),
        "trailers" => {
            let body = begin(out, status, Fields::new());
            write(&body, b"before");
            let trailers = fields(&[("x-sum", "1"), ("x-sum", "2"), ("x-end", "yes")]);
            OutgoingBody::finish(body, Some(trailers)).expect("a finished body");
        }
        "repeated" => {
            let headers = fields(&[("set-cookie", "a=1"), ("x-one", "1"), ("set-cookie", "b=2")]);
            finish(begin(out, status, headers), b"");
        }
        "never" => drop(out),
        "leaked-outparam" => std::mem::forget(out),
        "twice" => {
            let again = unsafe { ResponseOutparam::from_handle(out.handle()) };
            finish(begin(out, status, Fields::new()), b"once");
            ResponseOutparam::set(again, Err(ErrorCode::LoopDetected));
        }
        "error" => ResponseOutparam::set(out, Err(ErrorCode::HttpRequestDenied)),
        "internal-error" => ResponseOutparam::set(
            out,
            Err(ErrorCode::InternalError(Some("out of \u{1b}[2Jcheese\nreally".to_owned()))),
        ),
        "unfinished" => {
            let body = begin(out, status, Fields::new());
            write(&body, b"half");
        }
        "leaked-body" => {
            let body = begin(out, status, Fields::new());
            write(&body, b"half");
            std::mem::forget(body);
        }
        "short" => {
            let body = begin(out, status, fields(&[("content-length", "10")]));
            write(&body, b"half");
            let _ = OutgoingBody::finish(body, None);
        }
        "many-headers" => {
            let headers = Fields::new();
            for i in 0..number("n", 100) {
                headers.append(&format!("x-{i}"), &vec![b'v'; 1000]).expect("room for a header");
            }
            finish(begin(out, status, headers), b"");
        }
        "later" => {
            finish(begin(out, status, Fields::new()), b"first");
            monotonic_clock::subscribe_duration(number("ms", 20) as u64 * 1_000_000).block();
            logging::log_info("after the response");
        }
        "trap-later" => {
            finish(begin(out, status, Fields::new()), b"first");
            core::arch::wasm32::unreachable();
        }
        "hoard" => {
            // Bodies of requests that are never sent, each with what the host takes of it.
            let bodies: Vec<_> = (0..number("n", 100_000))
                .map(|_| {
                    let request = OutgoingRequest::new(Fields::new());
                    let body = request.body().expect("the first body");
                    let stream = body.write().expect("the first stream");
                    let mut taken = 0;
                    while let Ok(permit @ 1..) = stream.check_write() {
                        taken += permit;
                        stream.write(&vec![0; permit as usize]).expect("a write within the permit");
                    }
                    (request, body, stream, taken)
                })
                .collect();
            let taken: u64 = bodies.iter().map(|(.., taken)| taken).sum();
            let text = taken.to_string();
            std::mem::forget(bodies);
            finish(begin(out, status, Fields::new()), text.as_bytes());
        }
        "hang" => {
            let body = begin(out, status, Fields::new());
            write(&body, b"half");
            monotonic_clock::subscribe_duration(u64::MAX).block();
            drop(body);
        }
        _ => finish(begin(out, 400, Fields::new()), b"bad value for `kind`"),
    }
}

fn finish(body: OutgoingBody, bytes: &[u8]) {
    write(&body, bytes);
    OutgoingBody::finish(body, None).expect("a finished body");
}

/// Byte i is i modulo 251.
fn stream(body: OutgoingBody, bytes: usize) {
    let pattern: Vec<u8> = (0..251_u8).cycle().take(251 * 400).collect();
    {
        let stream = body.write().expect("the first stream");
        let mut left = bytes;
        while left > 0 {
            let now = left.min(pattern.len());
            if !http::write_to(&stream, &pattern[..now]) {
                return;
            }
            left -= now;
        }
    }
    OutgoingBody::finish(body, None).expect("a finished body");
}

http::handler!(handle);
