//! What all test guests share. A guest is one file in `behaviours/`: a function from [`Request`] to [`Response`] and a line `kit::handler!(function)`.
//!
//! Guests are driven by the query of the request's url, so that a test needs no more than an HTTP call.

pub mod query;
pub mod wasi;

/// Bindings of the world `longshore:guests/guest`.
pub mod bindings {
    wit_bindgen::generate!({
        path: ["../../../proto/wit", "../wit"],
        world: "longshore:guests/guest",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "kit::bindings",
    });
}

pub use bindings::alga::extension as host;
pub use bindings::alga::extension::types::{
    ExecuteRequest as Request, ExecuteResponse as Response, HttpHeader,
};
pub use query::Query;
pub use serde_json::{Map, Value, json};

/// Makes `$function` the guest's `handler`.
#[macro_export]
macro_rules! handler {
    ($function:path) => {
        struct Component;

        impl $crate::bindings::Guest for Component {
            fn handler(request: $crate::Request) -> $crate::Response {
                $function(request)
            }
        }

        $crate::bindings::export!(Component with_types_in $crate::bindings);
    };
}

/// One header.
pub fn header(name: &str, value: &str) -> HttpHeader {
    HttpHeader { name: name.to_owned(), value: value.to_owned() }
}

/// 200 with `body` under `content_type`.
pub fn bytes(content_type: &str, body: Vec<u8>) -> Response {
    Response { status: 200, headers: vec![header("content-type", content_type)], body: Some(body) }
}

/// 200 with `body` as plain text.
pub fn text(body: impl Into<String>) -> Response {
    bytes("text/plain; charset=utf-8", body.into().into_bytes())
}

/// 200 with `body` as JSON; its keys come out sorted.
pub fn json_body(body: &Value) -> Response {
    bytes("application/json", body.to_string().into_bytes())
}

/// A value for `?n=` and the like that a test mistyped: 400 rather than a surprising default.
pub fn bad_parameter(name: &str) -> Response {
    Response { status: 400, ..text(format!("bad value for `{name}`")) }
}
