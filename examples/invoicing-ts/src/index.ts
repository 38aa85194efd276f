// Manual invoices.
//
//   POST /invoices {"client": C, "service": S, "hours": 2, "rate": 9000, "date": "2026-02-01"}  ->  201 {"id", "number", "status", "total"}
//
// `rate` is in minor units of the currency (9000 is 90.00); without a date it is today's. A refusal is 422 {"error": .., "fields": {..}}, with the platform's words.
import { createManualInvoice } from 'alga:extension/invoicing';
import type { ExecuteRequest, ExecuteResponse } from 'alga:extension/types';

export function handler(request: ExecuteRequest): ExecuteResponse {
  if (request.http.method !== 'POST' || request.http.url.split('?')[0] !== '/invoices') {
    return json(404, { error: 'no such endpoint', try: 'POST /invoices' });
  }
  const { client = '', service = '', hours = 1, rate = 0, date } = parsed(request) as Order;
  const result = createManualInvoice({
    clientId: client,
    items: [{ serviceId: service, quantity: hours, description: `${hours} h of work`, rate }],
    invoiceDate: date,
  });
  return result.success
    ? json(201, { id: result.invoiceId, number: result.invoiceNumber, status: result.status, total: result.total })
    : json(422, { error: result.error, fields: JSON.parse(result.fieldErrors ?? '{}') });
}

interface Order {
  client?: string;
  service?: string;
  hours?: number;
  rate?: number;
  date?: string;
}

function parsed(request: ExecuteRequest): Record<string, unknown> {
  return JSON.parse(new TextDecoder().decode(request.http.body) || '{}');
}

function json(status: number, body: unknown): ExecuteResponse {
  const headers = [{ name: 'content-type', value: 'application/json' }];
  return { status, headers, body: new TextEncoder().encode(JSON.stringify(body)) };
}
