// The platform's services, to read.
//
//   GET /services?kind=service|product&page=n  ->  {"services": [{"id", "name", "kind", "rate"}], "total": n, "more": bool}, ten a page
//   GET /services/ID  ->  one of them, or 404 {"error": "no such service"}
//
// A refusal is {"error": name}: `not-allowed` 403, `invalid-input` 400, `internal` 502.
import { getService, listServices } from 'alga:extension/services';
import type { ExecuteRequest, ExecuteResponse, ServiceItemKind, ServiceSummary } from 'alga:extension/types';

const STATUS: Record<string, number> = { 'not-allowed': 403, 'invalid-input': 400, internal: 502 };

export function handler(request: ExecuteRequest): ExecuteResponse {
  const { pathname, searchParams } = new URL(request.http.url, 'http://extension');
  const [, collection, id] = pathname.split('/');
  if (request.http.method !== 'GET' || collection !== 'services') {
    return json(404, { error: 'no such endpoint', try: 'GET /services' });
  }
  try {
    if (id) {
      const service = getService(decodeURIComponent(id));
      return service ? json(200, shown(service)) : json(404, { error: 'no such service' });
    }
    const { items, totalCount, page, pageSize } = listServices({ itemKind: kind(searchParams.get('kind')), page: Number(searchParams.get('page') ?? 1), pageSize: 10 });
    return json(200, { services: items.map(shown), total: totalCount, more: page * pageSize < totalCount });
  } catch (error) {
    const name = reason(error);
    return json(STATUS[name] ?? 502, { error: name });
  }
}

function kind(text: string | null): ServiceItemKind | undefined {
  return text === 'service' || text === 'product' ? text : undefined;
}

function shown({ serviceId, serviceName, itemKind, defaultRate }: ServiceSummary) {
  return { id: serviceId, name: serviceName, kind: itemKind, rate: defaultRate };
}

/** A refused host call throws; the name in the WIT is the error's `payload`. */
function reason(error: unknown): string {
  return String((error as { payload?: unknown }).payload ?? error);
}

function json(status: number, body: unknown): ExecuteResponse {
  const headers = [{ name: 'content-type', value: 'application/json' }];
  return { status, headers, body: new TextEncoder().encode(JSON.stringify(body)) };
}
