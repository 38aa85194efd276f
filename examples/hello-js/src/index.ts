// What the component is made from: the host's functions, as `proto/wit` names them, put into the shape of the runtime package.
// Imports from `alga:` are bound by the worker; their types are generated from the WIT by `npm run types`.
import type { ExecuteRequest, ExecuteResponse } from 'alga:extension/types';
import { getContext } from 'alga:extension/context';
import { logError, logInfo, logWarn } from 'alga:extension/logging';
import { getUser } from 'alga:extension/user';

import { hello, type Host } from './handler.js';

const host: Host = {
  context: { get: async () => getContext() },
  logging: {
    info: async (message) => logInfo(message),
    warn: async (message) => logWarn(message),
    error: async (message) => logError(message),
  },
  user: { getUser: async () => getUser() },
};

export async function handler(request: ExecuteRequest): Promise<ExecuteResponse> {
  const { status, headers = [], body } = await hello(request, host);
  return { status, headers, body: body ?? undefined };
}
