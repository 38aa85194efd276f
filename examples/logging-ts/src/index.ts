// Structured logging, with the runtime package of the platform: the handler of its local development guide, in the form that 0.3.0 has.
//
//   GET /check?url=U  ->  {"ok": true}, or 500 {"ok": false, "error": name}: logs the request, and what U answers
//
// `handler.ts` is the extension; this file hands it the host's functions in the shape of the package.
import type { ExecuteRequest, ExecuteResponse } from 'alga:extension/types';
import { fetch } from 'alga:extension/http';
import { logError, logInfo, logWarn } from 'alga:extension/logging';

import { handle, type Host } from './handler.js';

const host: Host = {
  http: { fetch: async ({ body, ...request }) => fetch({ ...request, body: body ?? undefined }) },
  logging: {
    info: async (message) => logInfo(message),
    warn: async (message) => logWarn(message),
    error: async (message) => logError(message),
  },
};

export async function handler(request: ExecuteRequest): Promise<ExecuteResponse> {
  const { status, headers = [], body } = await handle(request, host);
  return { status, headers, body: body ?? undefined };
}
