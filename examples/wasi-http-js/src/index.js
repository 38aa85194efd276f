// A standard `wasi:http` component in JavaScript: nothing in it knows of Longshore. The world is `wasi:http/proxy`, the toolchain jco.
//
//   GET  /             {"hello": "<name>", "from": "javascript", "method": .., "host": ..}   name: ?name=, or "world"
//   POST /echo         the request's body, under its content type
//   GET  /fetch?url=U  {"status": .., "bytes": ..} of U; 502 where the install may not reach it
//
// Unlike the components of the `alga:extension` world it has `fetch`, a clock, random numbers and a console (whose lines go into the debug stream).
addEventListener('fetch', (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  const url = new URL(request.url);
  console.log(`${request.method} ${url.pathname}`);
  if (request.method === 'POST' && url.pathname === '/echo') {
    const type = request.headers.get('content-type') ?? 'application/octet-stream';
    return new Response(await request.arrayBuffer(), { headers: { 'content-type': type } });
  }
  if (request.method === 'GET' && url.pathname === '/fetch') {
    try {
      const response = await fetch(url.searchParams.get('url'));
      return json({ status: response.status, bytes: (await response.arrayBuffer()).byteLength });
    } catch (error) {
      return json({ error: String(error) }, 502);
    }
  }
  if (request.method === 'GET' && url.pathname === '/') {
    return json({ hello: url.searchParams.get('name') ?? 'world', from: 'javascript', method: request.method, host: url.host });
  }
  return json({ error: 'no such endpoint', try: '/' }, 404);
}

function json(body, status = 200) {
  return new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json' } });
}
