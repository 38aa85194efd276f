//! `wasi:http` 0.3: says what request it got, as JSON, from a task that goes on after the handler has returned. `?kind=stream&bytes=n` streams,
//! `trailers` sends some, `unfinished` ends in an error, `error` answers one, `hang` never ends its body, `send` tries an outgoing request.

wit_bindgen::generate!({
    path: "wit",
    world: "guest",
    generate_all,
});

use exports::wasi::http::handler::Guest;
use serde_json::{Value, json};
use wasi::http::client;
use wasi::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wit_bindgen::spawn_local;

struct Component;

fn parameter<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = url.split_once('?')?;
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| *key == name)
        .map(|(_, v)| v)
}

impl Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let url = request.get_path_with_query().unwrap_or_default();
        let kind = parameter(&url, "kind").unwrap_or("echo").to_owned();
        let length = parameter(&url, "bytes").and_then(|n| n.parse().ok()).unwrap_or(usize::MAX);
        let head = json!({
            "method": format!("{:?}", request.get_method()),
            "scheme": request.get_scheme().map(|scheme| format!("{scheme:?}")),
            "authority": request.get_authority(), "url": url,
            "headers": request.get_headers().copy_all().into_iter()
                .map(|(name, value)| json!([name, String::from_utf8_lossy(&value)])).collect::<Vec<Value>>(),
        });
        let (done, done_reader) = wit_future::new(|| Ok(()));
        let (body, _trailers) = Request::consume_body(request, done_reader);
        let bytes = body.collect().await;
        drop(done);
        if kind == "error" {
            return Err(ErrorCode::HttpRequestDenied);
        }
        let mut head = head;
        head["body_length"] = json!(bytes.len());
        if kind == "send" {
            head["sent"] = json!(send().await);
        }
        let (mut writer, reader) = wit_stream::new();
        let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
        let headers = Fields::from_list(&[
            ("set-cookie".into(), b"a=1".to_vec()),
            ("set-cookie".into(), b"b=2".to_vec()),
        ])
        .expect("headers");
        let (response, _sent) = Response::new(headers, Some(reader), trailers_reader);
        spawn_local(async move {
            match kind.as_str() {
                "stream" => {
                    let mut left = length;
                    while left > 0 {
                        let now = left.min(100_000);
                        if !writer.write_all(vec![b'x'; now]).await.is_empty() {
                            return;
                        }
                        left -= now;
                    }
                }
                "hang" => {
                    writer.write_all(b"half".to_vec()).await;
                    wasi::clocks::monotonic_clock::wait_for(u64::MAX).await;
                }
                _ => drop(writer.write_all(head.to_string().into_bytes()).await),
            }
            drop(writer);
            let end = match kind.as_str() {
                "trailers" => {
                    Ok(Some(Fields::from_list(&[("x-sum".into(), b"1".to_vec())]).expect("trailers")))
                }
                "unfinished" => Err(ErrorCode::InternalError(Some("half".into()))),
                _ => Ok(None),
            };
            let _ = trailers.write(end).await;
        });
        Ok(response)
    }
}

async fn send() -> String {
    let (_trailers, trailers_reader) = wit_future::new(|| Ok(None));
    let (request, _sent) = Request::new(Fields::new(), None, trailers_reader, None);
    if request.set_scheme(Some(&Scheme::Http)).is_err()
        || request.set_path_with_query(Some("/")).is_err()
        || request.set_authority(Some("127.0.0.1:1")).is_err()
    {
        return "no request".to_owned();
    }
    match client::send(request).await {
        Ok(response) => response.get_status_code().to_string(),
        Err(code) => format!("{code:?}"),
    }
}

export!(Component);
