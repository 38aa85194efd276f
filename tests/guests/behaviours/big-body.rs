//! `?bytes=N` answers N bytes of a pattern: byte i is i modulo 251, a prime, so that no swapped or repeated chunk goes unseen.
//! `?check` answers length, SHA-256 and conformity with the pattern of the request's body. Both together: the pattern, with the findings in headers.

use std::fmt::Write;

use kit::{Query, Request, Response, header, json};
use sha2::{Digest, Sha256};

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    let Ok(bytes) = query.number("bytes", 0) else { return kit::bad_parameter("bytes") };
    let body = request.http.body.unwrap_or_default();
    let conforms = body.iter().zip((0..251).cycle()).all(|(byte, expected)| *byte == expected);
    if !query.has("bytes") {
        return kit::json_body(
            &json!({ "length": body.len(), "sha256": hex_digest(&body), "pattern": conforms }),
        );
    }
    let mut answer = kit::bytes(
        "application/octet-stream",
        (0..251).cycle().take(usize::try_from(bytes).unwrap_or(usize::MAX)).collect(),
    );
    if query.has("check") {
        answer.headers.push(header("x-body-length", &body.len().to_string()));
        answer.headers.push(header("x-body-sha256", &hex_digest(&body)));
        answer.headers.push(header("x-body-pattern", if conforms { "true" } else { "false" }));
    }
    answer
}

fn hex_digest(body: &[u8]) -> String {
    Sha256::digest(body).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

kit::handler!(handle);
