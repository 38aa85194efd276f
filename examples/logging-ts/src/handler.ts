import { jsonResponse, type ExecuteRequest, type ExecuteResponse, type HostBindings } from '@alga-psa/extension-runtime';

export type Host = Pick<HostBindings, 'http' | 'logging'>;

/** Lines of the call go to the worker's log and into the debug stream. A message that is a JSON object becomes fields of the event. */
export async function handle(request: ExecuteRequest, host: Host): Promise<ExecuteResponse> {
  const { method, url } = request.http;
  await host.logging.info(JSON.stringify({ message: 'processing request', method, url }));
  try {
    const target = new URL(url, 'http://extension').searchParams.get('url') ?? '';
    const data = await host.http.fetch({ method: 'GET', url: target, headers: [] });
    if (data.status >= 400) {
      await host.logging.warn(JSON.stringify({ message: 'upstream refused', status: data.status }));
    }
    await host.logging.info(JSON.stringify({ message: 'upstream response', status: data.status }));
    return jsonResponse({ ok: true });
  } catch (err) {
    // What a host call refuses with is the error's payload.
    const error = String((err as { payload?: unknown }).payload ?? err);
    await host.logging.error(JSON.stringify({ message: 'request failed', error }));
    return jsonResponse({ ok: false, error }, { status: 500 });
  }
}
