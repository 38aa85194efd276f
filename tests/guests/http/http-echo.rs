//! Says what request it got, as JSON; `?raw` answers the body, byte for byte; `?send=<authority>` says what came of an outgoing request.

use http::bindings::wasi::http::outgoing_handler;
use http::bindings::wasi::http::types::{Method, OutgoingRequest, Scheme};
use http::{Fields, IncomingRequest, ResponseOutparam, Value, json, parameter};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let url = request.path_with_query().unwrap_or_default();
    let headers: Vec<Value> = request
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| json!([name, String::from_utf8_lossy(&value)]))
        .collect();
    let body = http::body(&request);
    if parameter(&url, "raw").is_some() {
        return http::answer(out, "application/octet-stream", &body);
    }
    if let Some(authority) = parameter(&url, "send") {
        return http::answer_json(out, &json!({ "sent": send(authority) }));
    }
    let method = match request.method() {
        Method::Other(name) => name,
        known => format!("{known:?}").trim_start_matches("Method::").to_uppercase(),
    };
    let scheme = request.scheme().map(|scheme| match scheme {
        Scheme::Http => "http".to_owned(),
        Scheme::Https => "https".to_owned(),
        Scheme::Other(name) => name,
    });
    http::answer_json(
        out,
        &json!({
            "method": method, "scheme": scheme, "authority": request.authority(), "url": url,
            "headers": headers, "body_length": body.len(),
        }),
    );
}

fn send(authority: &str) -> String {
    let request = OutgoingRequest::new(Fields::new());
    let set = request
        .set_scheme(Some(&Scheme::Http))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some("/")));
    if set.is_err() {
        return "no request".to_owned();
    }
    let response = match outgoing_handler::handle(request, None) {
        Ok(response) => response,
        Err(code) => return format!("{code:?}"),
    };
    response.subscribe().block();
    match response.get() {
        Some(Ok(Ok(response))) => response.status().to_string(),
        Some(Ok(Err(code))) => format!("{code:?}"),
        _ => "nothing".to_owned(),
    }
}

http::handler!(handle);
