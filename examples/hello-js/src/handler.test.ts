import assert from 'node:assert/strict';
import { test } from 'node:test';

import { createMockHostBindings, type ExecuteRequest } from '@alga-psa/extension-runtime';

import { hello } from './handler.js';

const quiet = { info: async () => {}, warn: async () => {}, error: async () => {} };

function get(url: string): ExecuteRequest {
  return {
    context: { tenantId: 'tenant-mock', extensionId: 'extension-mock' },
    http: { method: 'GET', url, headers: [] },
  };
}

async function call(url: string, overrides: Parameters<typeof createMockHostBindings>[0] = {}) {
  const response = await hello(get(url), createMockHostBindings({ logging: quiet, ...overrides }));
  return { status: response.status, body: JSON.parse(new TextDecoder().decode(response.body ?? undefined)) };
}

test('a caller is greeted by name, and told for which tenant', async () => {
  const { status, body } = await call('/hello?loud=1');
  assert.equal(status, 200);
  assert.deepEqual(body, {
    hello: 'Mock User',
    from: 'javascript',
    tenant: 'tenant-mock',
    extension: 'extension-mock',
    install: null,
  });
});

test('a call without a user is greeted too', async () => {
  const user = {
    getUser: async () => {
      throw 'not-available';
    },
  };
  assert.equal((await call('/hello', { user })).body.hello, 'world');
});

test('an unknown path answers 404 and says where to go', async () => {
  const { status, body } = await call('/nowhere');
  assert.equal(status, 404);
  assert.equal(body.try, '/hello');
});
