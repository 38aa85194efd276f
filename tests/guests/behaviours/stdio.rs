//! Writes to stdout and stderr what line splitting gets wrong: partial writes, several lines in one write, CR LF, empty lines, multi-byte characters
//! cut by a write, bytes that are no UTF-8, NUL, a line of `?long=N` bytes (0: none), and a last line without its end. The README has the exact bytes.

use kit::{Query, Request, Response, json, wasi};

fn handle(request: Request) -> Response {
    let query = Query::of(&request.http.url);
    let Ok(long) = query.number("long", 0) else { return kit::bad_parameter("long") };
    let euro = "\u{20ac}".as_bytes();

    wasi::print(b"out first\n");
    wasi::eprint(b"err first\n");
    wasi::print(b"out par");
    wasi::eprint(b"err between\n");
    wasi::print(b"tial\n");
    wasi::print(b"out two\nout three\r\n\nout after empty\n");
    wasi::print(b"out cut ");
    for byte in euro {
        wasi::print(&[*byte]);
    }
    wasi::print(b"\n");
    wasi::print(b"out bad \xff\xfe bytes\n");
    wasi::print(b"out nul \0 byte\n");
    wasi::eprint("err gr\u{fc}n \u{1f980}\n".as_bytes());
    if long > 0 {
        wasi::print(&vec![b'l'; usize::try_from(long).unwrap_or(usize::MAX)]);
        wasi::print(b"\n");
    }
    wasi::print(b"out last without end");
    wasi::eprint(b"err last without end");
    kit::json_body(&json!({ "written": true }))
}

kit::handler!(handle);
