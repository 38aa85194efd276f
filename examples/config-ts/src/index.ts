// The configuration of the install, which the twelve interfaces do not carry: through the standard `wasi:config/store`, imported beside them. The
// world is in ../config-wit. (Components with an environment, such as Rust with `wasi:cli`, JavaScript and Python of `wasi:http`, find the same
// values there.)
//
//   GET /greeting  ->  {"greeting": <config "greeting", or "hello">, "configured": [names]}
import { get, getAll } from 'wasi:config/store@0.2.0-rc.1';
import type { ExecuteRequest, ExecuteResponse } from 'alga:extension/types';

export function handler(request: ExecuteRequest): ExecuteResponse {
  if (request.http.url.split('?')[0] !== '/greeting') {
    return json(404, { error: 'no such endpoint', try: '/greeting' });
  }
  const configured = getAll().map(([name]) => name).sort();
  return json(200, { greeting: get('greeting') ?? 'hello', configured });
}

function json(status: number, body: unknown): ExecuteResponse {
  const headers = [{ name: 'content-type', value: 'application/json' }];
  return { status, headers, body: new TextEncoder().encode(JSON.stringify(body)) };
}
