// Logging: lines of the call go to the worker's log and into the debug stream, from which they can be watched live. There is no `console`.
//
//   POST /work?items=n  ->  {"done": n}: one line at the start and one for each item, a warning above 10 items, an error for a number that is none
//
// A message that is a JSON object becomes fields of the event instead of text.
import { logError, logInfo, logWarn } from 'alga:extension/logging';
import type { ExecuteRequest, ExecuteResponse } from 'alga:extension/types';

export function handler(request: ExecuteRequest): ExecuteResponse {
  const { method, url } = request.http;
  logInfo(`${method} ${url}`);
  const { pathname, searchParams } = new URL(url, 'http://extension');
  if (method !== 'POST' || pathname !== '/work') {
    return json(404, { error: 'no such endpoint', try: 'POST /work?items=3' });
  }
  const items = Number(searchParams.get('items') ?? '1');
  if (!Number.isInteger(items) || items < 0) {
    logError(JSON.stringify({ message: 'bad number of items', items: searchParams.get('items') }));
    return json(400, { error: 'items is no whole number' });
  }
  if (items > 10) {
    logWarn(`${items} items are many: 10 are done`);
  }
  const done = Math.min(items, 10);
  for (let item = 1; item <= done; item++) {
    logInfo(JSON.stringify({ message: 'item done', item, of: items }));
  }
  return json(200, { done });
}

function json(status: number, body: unknown): ExecuteResponse {
  const headers = [{ name: 'content-type', value: 'application/json' }];
  return { status, headers, body: new TextEncoder().encode(JSON.stringify(body)) };
}
