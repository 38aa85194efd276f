// Secrets: the install's sealed values, as a value and as a handle.
//
//   GET  /keys          ->  {"keys": [..]}: their names
//   GET  /check?key=K   ->  {"key": K, "length": n}, or 404 {"error": "missing"}: uses the value, never shows it
//   POST /call?url=U    ->  {"status": n}: calls U with the secret `api_key` as bearer token. The host puts it in for `{{secret:api_key}}`, and only
//                           for the hosts that the secret names: this extension never has the value in its memory.
import { fetch } from 'alga:extension/http';
import { get, listKeys } from 'alga:extension/secrets';
import type { ExecuteRequest, ExecuteResponse } from 'alga:extension/types';

export function handler(request: ExecuteRequest): ExecuteResponse {
  const url = new URL(request.http.url, 'http://extension');
  const parameter = (name: string) => url.searchParams.get(name) ?? '';
  try {
    switch (`${request.http.method} ${url.pathname}`) {
      case 'GET /keys':
        return json(200, { keys: [...listKeys()].sort() });
      case 'GET /check':
        return json(200, { key: parameter('key'), length: get(parameter('key')).length });
      case 'POST /call': {
        const headers = [{ name: 'authorization', value: 'Bearer {{secret:api_key}}' }];
        return json(200, { status: fetch({ method: 'GET', url: parameter('url'), headers }).status });
      }
      default:
        return json(404, { error: 'no such endpoint', try: 'GET /keys' });
    }
  } catch (error) {
    const name = reason(error);
    return json(name === 'missing' ? 404 : 502, { error: name });
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
