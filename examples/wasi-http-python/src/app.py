"""A standard `wasi:http` component in Python: nothing in it knows of Longshore. The world is `wasi:http/proxy`, the toolchain componentize-py.

    GET  /             {"hello": "<name>", "from": "python", "method": .., "host": .., "config": {..}}   name: ?name=, or "world"
    POST /echo         the request's body, under its content type
    GET  /fetch?url=U  {"status": .., "bytes": .., "sha256": ..} of U; 502 and the error's name where the install may not reach it

The install's config arrives as environment variables, and what is printed goes into the debug stream.
"""

import asyncio
import hashlib
import json
import os
from urllib.parse import parse_qs, urlsplit

import poll_loop
from componentize_py_types import Err, Ok
from poll_loop import PollLoop, Sink, Stream
from wit_world import exports
from wit_world.imports.types import (
    Fields, IncomingRequest, Method_Get, Method_Post, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme_Http, Scheme_Https,
)


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        loop = PollLoop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(answer(request, response_out))


async def answer(request: IncomingRequest, response_out: ResponseOutparam) -> None:
    url = urlsplit(request.path_with_query() or "/")
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    print(f"{type(request.method()).__name__} {url.path}")
    match request.method(), url.path:
        case Method_Get(), "/":
            await send(response_out, 200, {
                "hello": query.get("name", "world"),
                "from": "python",
                "method": "GET",
                "host": request.authority(),
                "config": dict(os.environ),
            })
        case Method_Post(), "/echo":
            content_type = request.headers().get("content-type") or [b"application/octet-stream"]
            await send(response_out, 200, await read(request.consume()), content_type[0])
        case Method_Get(), "/fetch" if "url" in query:
            try:
                await send(response_out, 200, await fetch(query["url"]))
            except Err as refused:
                await send(response_out, 502, {"error": type(refused.value).__name__})
        case _:
            await send(response_out, 404, {"error": "no such endpoint", "try": "/"})


async def fetch(url: str) -> dict[str, object]:
    parts = urlsplit(url)
    request = OutgoingRequest(Fields.from_list([("accept", b"*/*")]))
    request.set_scheme(Scheme_Https() if parts.scheme == "https" else Scheme_Http())
    request.set_authority(parts.netloc)
    request.set_path_with_query((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    response = await poll_loop.send(request)
    body = await read(response.consume())
    return {"status": response.status(), "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}


async def read(body) -> bytes:
    stream, whole = Stream(body), b""
    while (chunk := await stream.next()) is not None:
        whole += chunk
    return whole


async def send(response_out: ResponseOutparam, status: int, body, content_type: bytes = b"application/json") -> None:
    response = OutgoingResponse(Fields.from_list([("content-type", content_type)]))
    response.set_status_code(status)
    outgoing = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    sink = Sink(outgoing)
    await sink.send(body if isinstance(body, bytes) else json.dumps(body).encode())
    sink.close()
