// Builds the JavaScript and TypeScript examples: `npm run build` those whose sources have changed, `npm run build -- storage-ts` one of them.
// For an extension of your own, the three commands in `component` are all that is needed (docs/writing-extensions.md).
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = dirname(fileURLToPath(import.meta.url));
const tool = (name, ...args) => run(join(root, 'node_modules/.bin', name), args, { cwd: root });

/** Parts of the JavaScript engine that need more of the host than the twelve interfaces; without them it has no clock and no console. */
const WASI = ['clocks', 'fetch-event', 'http', 'random', 'stdio'];
/** Examples that need one of them. */
const KEPT = { 'billing-ts': ['clocks'] };
/** An example with a world of its own, which includes ours: jco wants both in one folder. */
const OWN_WORLD = 'config-ts';

function worlds() {
  cpSync(join(root, 'config-wit'), join(root, 'build/wit'), { recursive: true });
  cpSync(join(root, '../proto/wit'), join(root, 'build/wit/deps/extension'), { recursive: true });
}

async function component(name) {
  const out = `${name}/dist/main.wasm`;
  mkdirSync(join(root, name, 'dist'), { recursive: true });
  if (name === 'wasi-http-js') {
    // As its toolchain does by default: the standard world, everything in.
    return tool('jco', 'componentize', `${name}/src/index.js`, '--wit', 'wit', '--world-name', 'proxy', '--out', out);
  }
  const bundle = `build/${name}.js`;
  const kept = KEPT[name] ?? [];
  const disabled = kept.length === 0 ? ['all'] : WASI.filter((feature) => !kept.includes(feature));
  const flags = ['--bundle', '--format=esm', '--platform=neutral', '--target=es2022', '--external:alga:*', '--external:wasi:*', '--log-level=warning'];
  await tool('esbuild', `${name}/src/index.ts`, ...flags, `--outfile=${bundle}`);
  const world = name === OWN_WORLD ? ['--wit', 'build/wit', '--world-name', 'configured'] : ['--wit', '../proto/wit', '--world-name', 'runner'];
  await tool('jco', 'componentize', bundle, ...world, '--disable', ...disabled, '--out', out);
}

function files(path) {
  const full = join(root, path);
  if (!statSync(full).isDirectory()) return [path];
  return readdirSync(full).sort().flatMap((entry) => files(join(path, entry)));
}

/** Of everything that goes into the component. */
function digest(name) {
  const hash = createHash('sha256');
  const wit = name === 'wasi-http-js' ? ['wit'] : name === OWN_WORLD ? ['../proto/wit', 'config-wit'] : ['../proto/wit'];
  for (const file of [`${name}/src`, ...wit, 'build.mjs', 'package-lock.json'].flatMap(files)) {
    hash.update(`${file}\0`).update(readFileSync(join(root, file))).update('\0');
  }
  return hash.digest('hex');
}

async function build(name) {
  const stamp = join(root, name, 'dist/.built-from');
  const wanted = digest(name);
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted && existsSync(join(root, name, 'dist/main.wasm'))) return false;
  rmSync(stamp, { force: true });
  await component(name);
  writeFileSync(stamp, wanted);
  return true;
}

const examples = readdirSync(root).filter((name) => name.endsWith('-ts') || name === 'wasi-http-js');
const wanted = process.argv.length > 2 ? process.argv.slice(2) : examples;
const unknown = wanted.filter((name) => !examples.includes(name));
if (unknown.length > 0) {
  console.error(`no such example: ${unknown.join(', ')}; there are ${examples.join(', ')}`);
  process.exit(2);
}
worlds();
await tool('jco', 'guest-types', 'build/wit', '--world-name', 'configured', '--out-dir', 'build/types', '--quiet');
try {
  await tool('tsc', '--noEmit');
} catch (error) {
  console.error(error.stdout || error.message);
  process.exit(1);
}
// Each takes some seconds of one core and 300 MB.
const queue = [...wanted];
let failed = false;
async function work() {
  for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
    try {
      const built = await build(name);
      console.log(`${name}: ${built ? 'built' : 'up to date'}`);
    } catch (error) {
      failed = true;
      console.error(`${name}: failed\n${error.stdout ?? ''}${error.stderr ?? ''}${error.code === undefined ? error.message : ''}`);
    }
  }
}
await Promise.all(Array.from({ length: Math.min(4, availableParallelism()) }, work));
process.exit(failed ? 1 : 0);
