//! What the test guests of `wasi:http` 0.2 share: bindings, the request's query, a JSON answer.

/// Bindings of the world `longshore:http-guests/guest`.
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../../proto/wit", "../wit", "wit"],
        world: "longshore:http-guests/guest",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "http::bindings",
    });
}

pub use bindings::exports::wasi::http::incoming_handler::Guest;
pub use bindings::wasi::http::types::{
    ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
pub use bindings::wasi::io::streams::{OutputStream, StreamError};
pub use serde_json::{Value, json};

/// Makes `$function` the guest's `handle`.
#[macro_export]
macro_rules! handler {
    ($function:path) => {
        struct Component;

        impl $crate::Guest for Component {
            fn handle(request: $crate::IncomingRequest, out: $crate::ResponseOutparam) {
                $function(request, out);
            }
        }

        $crate::bindings::export!(Component with_types_in $crate::bindings);
    };
}

/// The value of the query's parameter `name`, not decoded; empty when it has none.
pub fn parameter<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = url.split_once('?')?;
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *key == name)
        .map(|(_, v)| v)
}

/// A header map.
pub fn fields(entries: &[(&str, &str)]) -> Fields {
    let entries: Vec<_> = entries.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect();
    Fields::from_list(&entries).unwrap_or_else(|_| Fields::new())
}

/// Sets a response of this status and gives its body to write.
pub fn begin(out: ResponseOutparam, status: u16, headers: Fields) -> OutgoingBody {
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("a status");
    let body = response.body().expect("the first body");
    ResponseOutparam::set(out, Ok(response));
    body
}

/// Writes all of `bytes`, as fast as the host takes them; false when the host has closed the stream.
pub fn write(body: &OutgoingBody, bytes: &[u8]) -> bool {
    let Ok(stream) = body.write() else { return false };
    write_to(&stream, bytes)
}

/// The same, to a stream at hand.
pub fn write_to(stream: &OutputStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        stream.subscribe().block();
        let Ok(permit) = stream.check_write() else { return false };
        let (now, rest) = bytes.split_at(bytes.len().min(permit as usize));
        if stream.write(now).is_err() {
            return false;
        }
        bytes = rest;
    }
    stream.blocking_flush().is_ok()
}

/// 200 with `body` and this content type.
pub fn answer(out: ResponseOutparam, content_type: &str, bytes: &[u8]) {
    let body = begin(out, 200, fields(&[("content-type", content_type)]));
    write(&body, bytes);
    OutgoingBody::finish(body, None).expect("a finished body");
}

/// 200 with JSON.
pub fn answer_json(out: ResponseOutparam, body: &Value) {
    answer(out, "application/json", body.to_string().as_bytes());
}

/// The request's body, read to its end.
pub fn body(request: &IncomingRequest) -> Vec<u8> {
    let Ok(body) = request.consume() else { return Vec::new() };
    let mut bytes = Vec::new();
    if let Ok(stream) = body.stream() {
        while let Ok(more) = stream.blocking_read(64 * 1024) {
            bytes.extend(more);
        }
    }
    bytes
}
