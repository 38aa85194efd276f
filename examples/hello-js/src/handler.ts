import { jsonResponse, type ExecuteRequest, type ExecuteResponse, type HostBindings } from '@alga-psa/extension-runtime';

/** The host interfaces that this extension uses; its manifest asks for the capabilities that gate them. */
export type Host = Pick<HostBindings, 'context' | 'logging' | 'user'>;

/**
 * Greets whoever calls, says which tenant and install it runs for, and logs one line.
 *
 * Each call runs in a fresh instance: module variables do not survive from one call to the next. `Date.now()` is frozen at build time and `console`
 * is silent; use `host.logging`.
 */
export async function hello(request: ExecuteRequest, host: Host): Promise<ExecuteResponse> {
  // `url` is relative: the path that follows the extension's own, and the query.
  const { method, url } = request.http;
  await host.logging.info(`${method} ${url}`);

  const path = url.split('?')[0];
  if (path !== '/' && path !== '/hello') {
    return jsonResponse({ error: 'no such endpoint', try: '/hello' }, { status: 404 });
  }
  const context = await host.context.get();
  return jsonResponse({
    hello: await callerName(host),
    from: 'javascript',
    tenant: context.tenantId,
    extension: context.extensionId,
    install: context.installId ?? null,
  });
}

/** A schedule or a webhook has no user; that is no reason to fail. */
async function callerName(host: Host): Promise<string> {
  try {
    return (await host.user.getUser()).userName;
  } catch {
    await host.logging.warn('no user');
    return 'world';
  }
}
