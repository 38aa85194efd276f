// Schedules: an extension that has itself called at given times.
//
//   POST   /schedules {"cron": "0 6 * * *", "timezone": "Europe/Berlin"}  ->  201 {"id": ..}, or 422 {"error": .., "fields": {..}}
//   GET    /schedules       ->  {"schedules": [{"id", "cron", "timezone", "endpoint", "enabled", "lastRun"}]}
//   DELETE /schedules?id=I  ->  204, or 404 {"error": ..}
//   POST   /tick            ->  {"ticked": true}: what the schedules call; logs a line
import { createSchedule, deleteSchedule, listSchedules } from 'alga:extension/scheduler';
import { logInfo } from 'alga:extension/logging';
import type { ExecuteRequest, ExecuteResponse } from 'alga:extension/types';

export function handler(request: ExecuteRequest): ExecuteResponse {
  const { pathname, searchParams } = new URL(request.http.url, 'http://extension');
  switch (`${request.http.method} ${pathname}`) {
    case 'POST /schedules': {
      const { cron = '', timezone } = parsed(request) as { cron?: string; timezone?: string };
      // The endpoint is one of the manifest's. Five fields of cron; without a time zone it is UTC.
      const result = createSchedule({ endpoint: 'POST /tick', cron, timezone, enabled: true, name: 'tick', payload: '{"from":"schedule"}' });
      return result.success
        ? json(201, { id: result.scheduleId })
        : json(422, { error: result.error, fields: JSON.parse(result.fieldErrors ?? '{}') });
    }
    case 'GET /schedules':
      return list();
    case 'DELETE /schedules': {
      const { success, error } = deleteSchedule(searchParams.get('id') ?? '');
      return success ? { status: 204, headers: [] } : json(404, { error });
    }
    case 'POST /tick':
      logInfo(`tick: ${new TextDecoder().decode(request.http.body)}`);
      return json(200, { ticked: true });
    default:
      return json(404, { error: 'no such endpoint', try: 'GET /schedules' });
  }
}

/** The functions that read answer a `result`: refused, they throw. Those that write say `success: false`. */
function list(): ExecuteResponse {
  try {
    const schedules = listSchedules().map(({ id, cron, timezone, endpointMethod, endpointPath, enabled, lastRunAt }) => ({
      id, cron, timezone, endpoint: `${endpointMethod} ${endpointPath}`, enabled, lastRun: lastRunAt ?? null,
    }));
    return json(200, { schedules });
  } catch (error) {
    return json(502, { error: reason(error) });
  }
}

/** A refused host call throws; the name in the WIT is the error's `payload`. */
function reason(error: unknown): string {
  return String((error as { payload?: unknown }).payload ?? error);
}

function parsed(request: ExecuteRequest): Record<string, unknown> {
  return JSON.parse(new TextDecoder().decode(request.http.body) || '{}');
}

function json(status: number, body: unknown): ExecuteResponse {
  const headers = [{ name: 'content-type', value: 'application/json' }];
  return { status, headers, body: new TextEncoder().encode(JSON.stringify(body)) };
}
