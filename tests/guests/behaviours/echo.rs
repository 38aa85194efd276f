//! Answers what it was asked. `?raw` answers the request's body under its own content type, byte for byte.

use kit::{Query, Request, Response, host::context::get_context, json};

fn handle(request: Request) -> Response {
    let http = request.http;
    if Query::of(&http.url).has("raw") {
        let content_type =
            http.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-type"));
        let content_type = content_type.map_or("application/octet-stream", |header| header.value.as_str());
        return Response { body: http.body, ..kit::bytes(content_type, Vec::new()) };
    }
    let headers: Vec<_> = http.headers.iter().map(|header| json!([header.name, header.value])).collect();
    let asked = get_context();
    kit::json_body(&json!({
        "method": http.method,
        "url": http.url,
        "headers": headers,
        "body_length": http.body.as_ref().map(Vec::len),
        "context": {
            "request_id": request.context.request_id,
            "tenant_id": request.context.tenant_id,
            "extension_id": request.context.extension_id,
            "install_id": request.context.install_id,
            "version_id": request.context.version_id,
        },
        "get_context": {
            "request_id": asked.request_id,
            "tenant_id": asked.tenant_id,
            "extension_id": asked.extension_id,
            "install_id": asked.install_id,
            "version_id": asked.version_id,
        },
    }))
}

kit::handler!(handle);
