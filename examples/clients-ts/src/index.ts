// The platform's clients, to read.
//
//   GET /clients?search=T&page=n  ->  {"clients": [{"id", "name", "inactive"}], "total": n, "more": bool}, ten a page
//   GET /clients/ID  ->  one of them, or 404 {"error": "no such client"}
//
// A refusal is {"error": name}: `not-allowed` 403, `invalid-input` 400, `internal` 502.
import { getClient, listClients } from 'alga:extension/clients';
import type { ClientSummary, ExecuteRequest, ExecuteResponse } from 'alga:extension/types';

const STATUS: Record<string, number> = { 'not-allowed': 403, 'invalid-input': 400, internal: 502 };

export function handler(request: ExecuteRequest): ExecuteResponse {
  const { pathname, searchParams } = new URL(request.http.url, 'http://extension');
  const [, collection, id] = pathname.split('/');
  if (request.http.method !== 'GET' || collection !== 'clients') {
    return json(404, { error: 'no such endpoint', try: 'GET /clients' });
  }
  try {
    if (id) {
      const client = getClient(decodeURIComponent(id));
      return client ? json(200, shown(client)) : json(404, { error: 'no such client' });
    }
    const { items, totalCount, page, pageSize } = listClients({ search: searchParams.get('search') ?? undefined, page: Number(searchParams.get('page') ?? 1), pageSize: 10 });
    return json(200, { clients: items.map(shown), total: totalCount, more: page * pageSize < totalCount });
  } catch (error) {
    const name = reason(error);
    return json(STATUS[name] ?? 502, { error: name });
  }
}

function shown({ clientId, clientName, isInactive }: ClientSummary) {
  return { id: clientId, name: clientName, inactive: isInactive };
}

/** A refused host call throws; the name in the WIT is the error's `payload`. */
function reason(error: unknown): string {
  return String((error as { payload?: unknown }).payload ?? error);
}

function json(status: number, body: unknown): ExecuteResponse {
  const headers = [{ name: 'content-type', value: 'application/json' }];
  return { status, headers, body: new TextEncoder().encode(JSON.stringify(body)) };
}
