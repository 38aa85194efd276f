// The host's side of the messages between an extension's page and the application around it.
// Envelope: { alga: true, version: '1', type, request_id?, payload }.
'use strict';
(() => {
  const data = JSON.parse(document.getElementById('data').textContent);
  const chosen = data.frame;
  const MIN_HEIGHT = 100;
  const MAX_HEIGHT = 4000;
  const METHODS = new Set(['GET', 'POST', 'PUT', 'PATCH', 'DELETE']);
  // A page of an extension may ask for many things at once, but not for everything.
  const MAX_PENDING = 64;
  const byId = (id) => document.getElementById(id);

  byId('tenant').textContent = `Tenant ${data.tenant}`;
  for (const item of data.menu) {
    const link = document.createElement('a');
    link.href = `/msp/extensions/${encodeURIComponent(item.id)}/`;
    link.textContent = item.label;
    if (chosen && chosen.id === item.id) link.setAttribute('aria-current', 'page');
    byId('menu').append(link);
  }
  const say = (text) => {
    byId('empty').hidden = false;
    byId('empty').textContent = text;
  };
  if (!chosen) {
    if (data.menu.length === 0) say('No extension with pages is installed for this tenant: longshore install DIR');
    return;
  }
  document.title = `${chosen.label} - Longshore development`;
  byId('title').textContent = chosen.label;
  const showVersion = (version, hash) => {
    byId('version').textContent = `${version || ''} ${hash.slice(0, 19)}`.trim();
  };
  showVersion(chosen.version, chosen.content_hash);

  const frame = document.createElement('iframe');
  frame.title = chosen.label;
  frame.setAttribute('sandbox', chosen.sandbox);
  let path = chosen.path;
  // To a page without an origin nothing can be addressed but `*`; its window is ours to name all the same.
  const target = chosen.origin === 'null' ? '*' : chosen.origin;
  const send = (type, payload, requestId) => {
    const envelope = { alga: true, version: '1', type, payload };
    if (requestId !== undefined) envelope.request_id = requestId;
    if (frame.contentWindow) frame.contentWindow.postMessage(envelope, target);
  };
  const themeTokens = () => {
    const tokens = {};
    const style = getComputedStyle(document.documentElement);
    for (const name of ['bg', 'fg', 'muted', 'border', 'surface', 'primary', 'primary-foreground', 'radius']) {
      tokens[`--alga-${name}`] = style.getPropertyValue(`--alga-${name}`).trim();
    }
    return tokens;
  };
  // No token: an extension calls through this page, which is the development tenant.
  const bootstrap = () => send('bootstrap', {
    session: { token: '', expires_at: new Date(Date.now() + 3600e3).toISOString() },
    theme_tokens: themeTokens(),
    navigation: { path },
  });

  const toBase64 = (buffer) => {
    const bytes = new Uint8Array(buffer);
    let text = '';
    for (let at = 0; at < bytes.length; at += 0x8000) {
      text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
    }
    return btoa(text);
  };
  const fromBase64 = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));

  let pending = 0;
  const apiproxy = async (requestId, payload) => {
    if (typeof requestId !== 'string' || requestId === '') return;
    const answer = (content) => send('apiproxy_response', content, requestId);
    if (pending >= MAX_PENDING) {
      answer({ error: 'Proxy error 429: too many requests at once' });
      return;
    }
    pending += 1;
    try {
      const method = String(payload.method || 'POST').toUpperCase();
      if (!METHODS.has(method)) throw new Error(`Unsupported proxy method: ${method}`);
      const route = `/${String(payload.route || '').replace(/^\/+/, '')}`;
      const base = `/api/ext-proxy/${encodeURIComponent(chosen.id)}`;
      const url = new URL(base + route, location.origin);
      // `..` in a route must not lead to another extension.
      if (url.pathname !== base && !url.pathname.startsWith(`${base}/`)) throw new Error('Invalid route');
      const body = payload.body && method !== 'GET' ? fromBase64(payload.body) : undefined;
      const headers = body ? { 'content-type': 'application/octet-stream' } : {};
      const response = await fetch(url, { method, headers, body, credentials: 'omit', redirect: 'error' });
      if (response.ok) {
        answer({ body: toBase64(await response.arrayBuffer()) });
      } else {
        answer({ error: `Proxy error ${response.status}: ${await response.text()}` });
      }
    } catch (error) {
      answer({ error: String((error && error.message) || error) });
    } finally {
      pending -= 1;
    }
  };

  const load = (src) => {
    const url = new URL(src, location.origin);
    url.searchParams.set('path', path);
    frame.src = url.href;
  };
  window.addEventListener('message', (event) => {
    const message = event.data;
    if (event.source !== frame.contentWindow || event.origin !== chosen.origin) return;
    if (!message || typeof message !== 'object' || message.alga !== true || message.version !== '1') return;
    const payload = message.payload && typeof message.payload === 'object' ? message.payload : {};
    switch (message.type) {
      case 'ready':
        bootstrap();
        break;
      case 'resize': {
        const height = Number(payload.height);
        if (Number.isFinite(height)) {
          frame.style.height = `${Math.max(MIN_HEIGHT, Math.min(MAX_HEIGHT, Math.floor(height)))}px`;
        }
        break;
      }
      case 'navigate':
        if (typeof payload.path === 'string' && payload.path !== '') {
          path = payload.path;
          load(chosen.src);
        }
        break;
      case 'apiproxy':
        apiproxy(message.request_id, payload);
        break;
      default:
        break;
    }
  });
  frame.addEventListener('load', bootstrap);
  load(chosen.src);
  byId('frame').append(frame);

  // A bundle that was installed anew is shown at once.
  if (chosen.watch) {
    let hash = chosen.content_hash;
    const look = async () => {
      if (document.hidden) return;
      try {
        const response = await fetch(`/msp/state/${encodeURIComponent(chosen.id)}`, { cache: 'no-store' });
        if (response.status === 404) {
          say('The extension is not installed any more.');
          return;
        }
        if (!response.ok) return;
        const state = await response.json();
        if (state.content_hash !== hash) {
          const encoded = (text) => text.replace(':', '%3A');
          chosen.src = chosen.src.replace(encoded(hash), encoded(state.content_hash));
          hash = state.content_hash;
          showVersion(state.version, hash);
          load(chosen.src);
        }
      } catch {
        // The gateway restarts; the next look will tell.
      }
    };
    setInterval(look, 1000);
  }
})();
