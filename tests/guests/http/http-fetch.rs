//! Sends requests to `?to=<authority>` in the ways there are, and says how they went, chance included: how often it looked in vain, what came
//! first, how long it took. `?kind=`
//!
//! - `post`: `?bytes=` of body in pieces, `?length` says so in `content-length` (with a value: says that), then the answer whole
//! - `parts`: looks before there is anything, then waits with a timer beside, reads without blocking
//! - `splice`: skips three bytes of the answer and splices the rest into its own
//! - `relay`: polls the answer's body and its own together
//! - `two`: two requests at once, `/a` and `/b`
//! - `drop`: lets go of everything, `?read` after one read
//! - `error`: reads until the body breaks off, and what the error says

use http::bindings::wasi::clocks::monotonic_clock;
use http::bindings::wasi::http::outgoing_handler;
use http::bindings::wasi::http::types::{
    FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingRequest, Scheme, http_error_code,
};
use http::bindings::wasi::io::poll::poll;
use http::{ErrorCode, Fields, IncomingRequest, OutgoingBody, ResponseOutparam, StreamError, Value, json, parameter};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let url = request.path_with_query().unwrap_or_default();
    let to = parameter(&url, "to").unwrap_or_default();
    let said = match parameter(&url, "kind").unwrap_or_default() {
        "post" => post(&url, to),
        "parts" => parts(to),
        "splice" => return splice(to, out),
        "relay" => return relay(to, out),
        "two" => two(to),
        "drop" => let_go(&url, to),
        "error" => broken(to),
        other => json!({ "no such kind": other }),
    };
    http::answer_json(out, &said);
}

fn request(to: &str, path: &str, fields: Fields) -> OutgoingRequest {
    let request = OutgoingRequest::new(fields);
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some(to)).expect("an authority");
    request.set_path_with_query(Some(path)).expect("a path");
    request
}

fn get(to: &str, path: &str) -> Result<FutureIncomingResponse, ErrorCode> {
    outgoing_handler::handle(request(to, path, Fields::new()), None)
}

fn wait(future: &FutureIncomingResponse) -> Result<IncomingResponse, Value> {
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(response))) => Ok(response),
        Some(Ok(Err(code))) => Err(json!({ "error": format!("{code:?}") })),
        other => Err(json!({ "get": format!("{}", other.is_none()) })),
    }
}

fn head(response: &IncomingResponse) -> Value {
    let headers: Vec<Value> = response
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| json!([name, String::from_utf8_lossy(&value)]))
        .collect();
    json!({ "status": response.status(), "headers": headers })
}

fn rest(response: IncomingResponse) -> Value {
    let head = head(&response);
    let body = response.consume().expect("a body");
    let mut bytes = Vec::new();
    {
        let stream = body.stream().expect("a stream");
        while let Ok(more) = stream.blocking_read(7_000) {
            bytes.extend(more);
        }
    }
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    let trailers = match trailers.get() {
        Some(Ok(Ok(Some(fields)))) => json!(fields.entries().len()),
        Some(Ok(Ok(None))) => json!(null),
        Some(Ok(Err(code))) => json!(format!("{code:?}")),
        _ => json!("none to get"),
    };
    json!({ "head": head, "body": String::from_utf8_lossy(&bytes), "trailers": trailers })
}

fn post(url: &str, to: &str) -> Value {
    let bytes: usize = parameter(url, "bytes").and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let length = parameter(url, "length").map(|n| n.parse().unwrap_or(bytes));
    let fields = match length {
        Some(length) => http::fields(&[("content-length", &length.to_string())]),
        None => Fields::new(),
    };
    let request = request(to, "/post", fields);
    request.set_method(&Method::Post).expect("a method");
    let body = request.body().expect("a body");
    let future = match outgoing_handler::handle(request, None) {
        Ok(future) => future,
        Err(code) => return json!({ "handle": format!("{code:?}") }),
    };
    let text: Vec<u8> = (b'a'..=b'z').cycle().take(bytes).collect();
    let mut waited = 0;
    let mut failed = Value::Null;
    {
        let stream = body.write().expect("a stream");
        let mut left = &text[..];
        while !left.is_empty() {
            let permit = match stream.check_write() {
                Ok(0) => {
                    waited += 1;
                    stream.subscribe().block();
                    continue;
                }
                Ok(permit) => (permit as usize).min(10_000),
                Err(error) => {
                    failed = said(error);
                    break;
                }
            };
            let (now, more) = left.split_at(left.len().min(permit));
            if let Err(error) = stream.write(now) {
                failed = said(error);
                break;
            }
            left = more;
        }
        let _ = stream.blocking_flush();
        let _ = stream.blocking_write_zeroes_and_flush(0);
    }
    let finished = match OutgoingBody::finish(body, Some(http::fields(&[("x-end", "yes")]))) {
        Ok(()) => json!("ok"),
        Err(code) => json!(format!("{code:?}")),
    };
    let answer = wait(&future).map_or_else(|error| error, rest);
    json!({ "waited": waited, "failed": failed, "finished": finished, "answer": answer })
}

fn said(error: StreamError) -> Value {
    match error {
        StreamError::Closed => json!("closed"),
        StreamError::LastOperationFailed(error) => {
            let code = http_error_code(&error).map(|code| format!("{code:?}"));
            json!({ "words": error.to_debug_string(), "code": code })
        }
    }
}

fn parts(to: &str) -> Value {
    let began = monotonic_clock::now();
    let future = match get(to, "/parts") {
        Ok(future) => future,
        Err(code) => return json!({ "handle": format!("{code:?}") }),
    };
    let early = future.get().is_none();
    let waits = future.subscribe();
    let early_ready = waits.ready();
    let mut timeouts = 0;
    loop {
        let timer = monotonic_clock::subscribe_duration(1_000_000);
        if poll(&[&timer, &waits]).contains(&1) {
            break;
        }
        timeouts += 1;
    }
    let response = match future.get() {
        Some(Ok(Ok(response))) => response,
        Some(Ok(Err(code))) => return json!({ "early": early, "error": format!("{code:?}") }),
        _ => return json!("nothing"),
    };
    let again = matches!(future.get(), Some(Err(())));
    let head = head(&response);
    let body = response.consume().expect("a body");
    let (mut bytes, mut reads, mut empty) = (0, Vec::new(), 0);
    let end = {
        let stream = body.stream().expect("a stream");
        loop {
            match stream.read(1_000) {
                Ok(read) if read.is_empty() => {
                    empty += 1;
                    let deadline = monotonic_clock::subscribe_instant(monotonic_clock::now() + 1_000_000);
                    poll(&[&stream.subscribe(), &deadline]);
                }
                Ok(read) => {
                    bytes += read.len();
                    reads.push(json!([read.len(), read[0]]));
                }
                Err(error) => break said(error),
            }
        }
    };
    let took = monotonic_clock::now() - began;
    json!({
        "early": early, "early_ready": early_ready, "timeouts": timeouts, "again": again, "head": head, "bytes": bytes,
        "reads": reads, "empty": empty, "end": end, "took": took,
    })
}

fn splice(to: &str, out: ResponseOutparam) {
    let response = match get(to, "/splice") {
        Ok(future) => wait(&future),
        Err(code) => Err(json!(format!("{code:?}"))),
    };
    let response = match response {
        Ok(response) => response,
        Err(error) => return http::answer_json(out, &error),
    };
    let from = response.consume().expect("a body");
    let body = http::begin(out, 200, http::fields(&[("content-type", "text/plain")]));
    {
        let source = from.stream().expect("a stream");
        let mut skipped = 0;
        while skipped < 3 {
            skipped += source.blocking_skip(3 - skipped).expect("three bytes");
        }
        let stream = body.write().expect("a stream");
        while stream.blocking_splice(&source, 5_000).is_ok() {}
    }
    OutgoingBody::finish(body, None).expect("a finished body");
}

fn relay(to: &str, out: ResponseOutparam) {
    let response = match get(to, "/relay") {
        Ok(future) => wait(&future),
        Err(code) => Err(json!(format!("{code:?}"))),
    };
    let response = match response {
        Ok(response) => response,
        Err(error) => return http::answer_json(out, &error),
    };
    let from = response.consume().expect("a body");
    let body = http::begin(out, 200, http::fields(&[("content-type", "text/plain")]));
    let mut turns = Vec::new();
    {
        let source = from.stream().expect("a stream");
        let stream = body.write().expect("a stream");
        loop {
            let ready = poll(&[&source.subscribe(), &stream.subscribe()]);
            turns.push(ready.len().to_string());
            let Ok(permit) = stream.check_write() else { break };
            match source.read(permit) {
                // Room there always is: waiting for both again would be no waiting.
                Ok(bytes) if bytes.is_empty() => source.subscribe().block(),
                Ok(bytes) => stream.write(&bytes).expect("a permitted write"),
                Err(_) => break,
            }
        }
        http::write_to(&stream, turns.join("").as_bytes());
        stream.blocking_write_and_flush(b" end").expect("a small write");
    }
    OutgoingBody::finish(body, None).expect("a finished body");
}

fn two(to: &str) -> Value {
    let (Ok(a), Ok(b)) = (get(to, "/a"), get(to, "/b")) else { return json!("not sent") };
    let (first, second) = (a.subscribe(), b.subscribe());
    let ready = poll(&[&first, &second]);
    drop((first, second));
    let b = wait(&b).map_or_else(|error| error, rest);
    let a = wait(&a).map_or_else(|error| error, rest);
    json!({ "first": ready, "a": a, "b": b })
}

fn let_go(url: &str, to: &str) -> Value {
    let Ok(future) = get(to, "/drop") else { return json!("not sent") };
    if parameter(url, "read").is_none() {
        return json!("dropped");
    }
    let Ok(response) = wait(&future) else { return json!("no answer") };
    let body = response.consume().expect("a body");
    let stream = body.stream().expect("a stream");
    let some = stream.blocking_read(10).map_or(0, |bytes| bytes.len());
    json!({ "dropped after": some })
}

fn broken(to: &str) -> Value {
    let response = match get(to, "/error") {
        Ok(future) => wait(&future),
        Err(code) => return json!({ "handle": format!("{code:?}") }),
    };
    let Ok(response) = response else { return response.err().unwrap_or_default() };
    let body = response.consume().expect("a body");
    let stream = body.stream().expect("a stream");
    let mut bytes = 0;
    let error = loop {
        match stream.blocking_read(100) {
            Ok(read) => bytes += read.len(),
            Err(error) => break error,
        }
    };
    let error = said(error);
    json!({ "bytes": bytes, "error": error, "then": stream.read(1).map_err(said).err() })
}

http::handler!(handle);
