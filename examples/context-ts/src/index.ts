// Who is calling: `context` has the ids of tenant, extension and install, `user-v2` the user behind the call. Both are granted to every install.
//
//   GET /whoami  ->  {"tenant": .., "extension": .., "install": .., "version": .., "request": .., "user": {"id", "name", "email", "type", "client", "fields"} | null}
import { getContext } from 'alga:extension/context';
import { getUser } from 'alga:extension/user-v2';
import type { ExecuteRequest, ExecuteResponse } from 'alga:extension/types';

export function handler(request: ExecuteRequest): ExecuteResponse {
  if (request.http.url.split('?')[0] !== '/whoami') {
    return json(404, { error: 'no such endpoint', try: '/whoami' });
  }
  const context = getContext();
  return json(200, {
    tenant: context.tenantId,
    extension: context.extensionId,
    install: context.installId ?? null,
    version: context.versionId ?? null,
    request: context.requestId ?? null,
    user: caller(),
  });
}

/** A schedule or a webhook has no user: the host then says `not-available`, which arrives as a thrown error. */
function caller() {
  try {
    const user = getUser();
    return {
      id: user.userId,
      name: user.userName,
      email: user.userEmail,
      type: user.userType,
      client: user.clientId ?? null,
      fields: Object.fromEntries(user.additionalFields),
    };
  } catch {
    return null;
  }
}

function json(status: number, body: unknown): ExecuteResponse {
  const headers = [{ name: 'content-type', value: 'application/json' }];
  return { status, headers, body: new TextEncoder().encode(JSON.stringify(body)) };
}
