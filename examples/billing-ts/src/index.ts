// A small product of its own, from several capabilities: every month, each active client gets an invoice for one service.
//
//   POST /setup {"service": S, "rate": 5000}  ->  {"schedule": I}: remembers what to bill, and has /run called at 06:00 on the first of each month
//   POST /run?month=2026-02                   ->  {"month", "invoiced": [client, ..], "failed": [..], "skipped": n}: without a month, the current one
//
// A month is billed once for each client: what has been done is remembered in storage, so that a run that was cut short can be repeated. Unlike
// the other examples it is built with `clocks` (see build.mjs): `new Date()` is then the time of the call.
import { listClients } from 'alga:extension/clients';
import { createManualInvoice } from 'alga:extension/invoicing';
import { logInfo, logWarn } from 'alga:extension/logging';
import { createSchedule } from 'alga:extension/scheduler';
import { get, put } from 'alga:extension/storage';
import type { ClientSummary, ExecuteRequest, ExecuteResponse } from 'alga:extension/types';

export function handler(request: ExecuteRequest): ExecuteResponse {
  const { pathname, searchParams } = new URL(request.http.url, 'http://extension');
  switch (`${request.http.method} ${pathname}`) {
    case 'POST /setup':
      return setup(new TextDecoder().decode(request.http.body));
    case 'POST /run':
      return run(searchParams.get('month') ?? new Date().toISOString().slice(0, 7));
    default:
      return json(404, { error: 'no such endpoint', try: 'POST /setup' });
  }
}

function setup(plan: string): ExecuteResponse {
  write('plan', plan);
  const result = createSchedule({ endpoint: 'POST /run', cron: '0 6 1 * *', timezone: 'UTC', enabled: true, name: 'monthly billing' });
  return result.success ? json(200, { schedule: result.scheduleId }) : json(422, { error: result.error });
}

function run(month: string): ExecuteResponse {
  const plan = read('plan');
  if (!plan) return json(409, { error: 'nothing to bill', try: 'POST /setup' });
  const { service, rate } = JSON.parse(plan) as { service: string; rate: number };
  const invoiced: string[] = [];
  const failed: string[] = [];
  let skipped = 0;
  for (const client of allClients()) {
    const done = `${month}.${client.clientId}`;
    if (read(done)) {
      skipped++;
      continue;
    }
    const items = [{ serviceId: service, quantity: 1, description: `Service for ${month}`, rate }];
    const result = createManualInvoice({ clientId: client.clientId, items });
    if (result.success) {
      write(done, result.invoiceNumber ?? '-');
      invoiced.push(client.clientName);
    } else {
      logWarn(JSON.stringify({ message: 'no invoice', client: client.clientId, error: result.error }));
      failed.push(client.clientName);
    }
  }
  logInfo(JSON.stringify({ message: 'billed', month, invoiced: invoiced.length, failed: failed.length, skipped }));
  return json(200, { month, invoiced, failed, skipped });
}

function allClients(): ClientSummary[] {
  const all: ClientSummary[] = [];
  for (let page = 1; ; page++) {
    const { items, totalCount } = listClients({ includeInactive: false, page, pageSize: 100 });
    all.push(...items);
    if (items.length === 0 || all.length >= totalCount) return all;
  }
}

function read(key: string): string | undefined {
  try {
    return new TextDecoder().decode(get('billing', key).value);
  } catch (error) {
    if ((error as { payload?: unknown }).payload === 'missing') return undefined;
    throw error;
  }
}

function write(key: string, value: string): void {
  put({ namespace: 'billing', key, value: new TextEncoder().encode(value) });
}

function json(status: number, body: unknown): ExecuteResponse {
  const headers = [{ name: 'content-type', value: 'application/json' }];
  return { status, headers, body: new TextEncoder().encode(JSON.stringify(body)) };
}
