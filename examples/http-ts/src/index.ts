// Calling out with `http.fetch`: only to hosts that the install and the worker allow, and redirects are not followed.
//
//   GET  /get?url=U   ->  {"status": .., "type": .., "body": ".."}: what U answers
//   POST /send?url=U  ->  the same, for a POST of the request's body as JSON
//
// A refused or failed call is 502 {"error": name}: `not-allowed` (the host, or the capability), `invalid-url`, `transport` (no connection, too slow),
// `internal`.
import { fetch } from 'alga:extension/http';
import type { ExecuteRequest, ExecuteResponse, HttpRequest } from 'alga:extension/types';

export function handler(request: ExecuteRequest): ExecuteResponse {
  const { pathname, searchParams } = new URL(request.http.url, 'http://extension');
  const url = searchParams.get('url') ?? '';
  const accept = { name: 'accept', value: 'application/json, */*' };
  switch (`${request.http.method} ${pathname}`) {
    case 'GET /get':
      return relay({ method: 'GET', url, headers: [accept] });
    case 'POST /send':
      return relay({ method: 'POST', url, headers: [accept, { name: 'content-type', value: 'application/json' }], body: request.http.body });
    default:
      return json(404, { error: 'no such endpoint', try: 'GET /get?url=https://example.com/' });
  }
}

function relay(request: HttpRequest): ExecuteResponse {
  try {
    const { status, headers, body } = fetch(request);
    const type = headers.find(({ name }) => name.toLowerCase() === 'content-type')?.value ?? null;
    return json(200, { status, type, body: new TextDecoder().decode(body) });
  } catch (error) {
    return json(502, { error: reason(error) });
  }
}

/** A refused host call throws; the name in the WIT is the error's `payload`. */
function reason(error: unknown): string {
  return String((error as { payload?: unknown }).payload ?? error);
}

function json(status: number, body: unknown): ExecuteResponse {
  const headers = [{ name: 'content-type', value: 'application/json' }];
  return { status, headers, body: new TextEncoder().encode(JSON.stringify(body)) };
}
