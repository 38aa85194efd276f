// A page inside the host's frame talks to the host by messages alone. Each is { alga: true, version: '1', type, payload }.
'use strict';

const VERSION = '1';

/** Nothing in these messages is secret, and a sandboxed page does not know its host's origin: so they go to whoever framed it. */
function tell(type, payload) {
  if (window.parent !== window) window.parent.postMessage({ alga: true, version: VERSION, type, payload }, '*');
}

/** The frame has no scroll bar of its own: the host makes it as high as the page says. */
function resize() {
  tell('resize', { height: Math.ceil(document.documentElement.getBoundingClientRect().height) });
}

window.addEventListener('message', (event) => {
  const message = event.data;
  if (event.source !== window.parent || message?.alga !== true || message.version !== VERSION) return;
  // Text, never markup: what comes from outside is shown, not obeyed.
  document.getElementById('host').textContent = `sent \`${String(message.type)}\``;
});

document.getElementById('script').textContent = 'running';
if (window.parent === window) document.getElementById('host').textContent = 'none: this page is not in a frame';
document.getElementById('more').addEventListener('click', () => {
  const line = document.createElement('li');
  line.textContent = new Date().toLocaleTimeString();
  document.getElementById('lines').append(line);
});
new ResizeObserver(resize).observe(document.documentElement);
tell('ready', {});
