//! Answers what HTTP callers may not see as it is: any status (`?status=N`, 0 to 65535; 200), headers as given (`?header=name:value`, repeatable and
//! percent-decoded, so CR and LF can be in it), a header twice (`?duplicate`), a body with any status (`?body=text`; none without), and
//! `?headers=N` headers more.

use kit::{Query, Request, Response, header};

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    let Some(status) = query.number("status", 200).ok().and_then(|status| u16::try_from(status).ok()) else {
        return kit::bad_parameter("status");
    };
    let Ok(count) = query.number("headers", 0) else { return kit::bad_parameter("headers") };
    let mut headers: Vec<_> = query
        .all("header")
        .map(|given| {
            let (name, value) = given.split_once(':').unwrap_or((given, ""));
            header(name, value)
        })
        .collect();
    if query.has("duplicate") {
        headers.push(header("x-twice", "first"));
        headers.push(header("x-twice", "second"));
        headers.push(header("X-Twice", "third"));
    }
    headers.extend((0..count).map(|number| header(&format!("x-many-{number}"), "v")));
    Response { status, headers, body: query.get("body").map(|body| body.as_bytes().to_vec()) }
}

kit::handler!(handle);
