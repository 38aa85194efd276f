// Storage: counters that stay right when two calls count at once, and a listing longer than one page.
//
//   POST   /visits?page=P  ->  {"page": P, "visits": n}: counts one
//   GET    /visits         ->  {"visits": {P: n, ..}}: all of them, in order
//   DELETE /visits?page=P  ->  204, or 404 {"error": "missing"}
import { delete as remove, get, listEntries, put } from 'alga:extension/storage';
import type { ExecuteRequest, ExecuteResponse, StorageEntry } from 'alga:extension/types';

const NAMESPACE = 'visits';

export function handler(request: ExecuteRequest): ExecuteResponse {
  const { pathname, searchParams } = new URL(request.http.url, 'http://extension');
  const page = searchParams.get('page') ?? 'home';
  try {
    switch (`${request.http.method} ${pathname}`) {
      case 'POST /visits':
        return json(200, { page, visits: count(page) });
      case 'GET /visits':
        return json(200, { visits: Object.fromEntries(all().map((entry) => [entry.key, number(entry)])) });
      case 'DELETE /visits':
        remove(NAMESPACE, page);
        return { status: 204, headers: [] };
      default:
        return json(404, { error: 'no such endpoint', try: 'GET /visits' });
    }
  } catch (error) {
    const name = reason(error);
    return json({ missing: 404, conflict: 409, denied: 403 }[name] ?? 502, { error: name });
  }
}

/**
 * `put` with a revision succeeds only if nobody else has written since: otherwise it says `conflict`, and we read again. Without a revision it
 * always writes, so two first visits at once may both be number 1.
 */
function count(page: string): number {
  for (let attempt = 1; ; attempt++) {
    const before = find(page);
    const visits = number(before) + 1;
    try {
      put({ namespace: NAMESPACE, key: page, value: new TextEncoder().encode(String(visits)), revision: before?.revision });
      return visits;
    } catch (error) {
      if (reason(error) !== 'conflict' || attempt === 5) throw error;
    }
  }
}

function find(page: string): StorageEntry | undefined {
  try {
    return get(NAMESPACE, page);
  } catch (error) {
    if (reason(error) === 'missing') return undefined;
    throw error;
  }
}

/** A page has up to 100 entries; the next one starts after the last key. */
function all(): StorageEntry[] {
  const entries: StorageEntry[] = [];
  for (let page = listEntries(NAMESPACE, undefined); page.length > 0; page = listEntries(NAMESPACE, entries.at(-1)?.key)) {
    entries.push(...page);
  }
  return entries;
}

function number(entry?: StorageEntry): number {
  return entry ? Number(new TextDecoder().decode(entry.value)) : 0;
}

/** A refused host call throws; the name in the WIT is the error's `payload`. */
function reason(error: unknown): string {
  return String((error as { payload?: unknown }).payload ?? error);
}

function json(status: number, body: unknown): ExecuteResponse {
  const headers = [{ name: 'content-type', value: 'application/json' }];
  return { status, headers, body: new TextEncoder().encode(JSON.stringify(body)) };
}
