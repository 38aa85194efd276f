// The platform's own HTTP API, called as the user of this call: the host adds the ids and, if the install has a secret `api_key`, that.
//
//   GET  /tickets  ->  what the platform's GET  /api/v1/tickets answers
//   POST /tickets  ->  what the platform's POST /api/v1/tickets answers to the request's JSON
//
// A payload makes it a POST, none a GET. A refusal is {"error": name}: `route-not-found` 404, `denied` 403, `bad-request` 400, `internal` 502.
import { callRoute } from 'alga:extension/ui-proxy';
import type { ExecuteRequest, ExecuteResponse } from 'alga:extension/types';

const STATUS: Record<string, number> = { 'route-not-found': 404, denied: 403, 'bad-request': 400, internal: 502 };

export function handler(request: ExecuteRequest): ExecuteResponse {
  const { method, url, body } = request.http;
  if (url.split('?')[0] !== '/tickets' || (method !== 'GET' && method !== 'POST')) {
    return json(404, { error: 'no such endpoint', try: 'GET /tickets' });
  }
  try {
    // A route that starts with /api/ is the platform's; any other is put under this extension's id.
    const answer = callRoute('/api/v1/tickets', method === 'POST' ? (body ?? new Uint8Array()) : undefined);
    return { status: 200, headers: [{ name: 'content-type', value: 'application/json' }], body: answer };
  } catch (error) {
    const name = reason(error);
    return json(STATUS[name] ?? 502, { error: name });
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
