// Starts the real emulator, then `node --test` on every *.test.js with the emulator's CA trusted: Node reads
// NODE_EXTRA_CA_CERTS only when it starts, and the CA exists only once the emulator runs.
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import path from 'node:path';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const ROOT = path.resolve(HERE, '..', '..');
const START_LIMIT_MS = 30_000;

const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith('PARLEY_EMULATOR_')),
);
const emulator = spawn(path.join(ROOT, '.venv', 'bin', 'python'), ['-m', 'emulator'], {
  cwd: ROOT,
  env: {
    ...environment,
    PARLEY_EMULATOR_API_KEYS: 'key',
    PARLEY_EMULATOR_PLAIN_PORT: '0',
    // Answers are played ten times as fast as they sound; what needs real time says so by a switch.
    PARLEY_EMULATOR_GENERATION_SPEED: '20',
    PARLEY_EMULATOR_PLAYBACK_SPEED: '10',
  },
  stdio: ['ignore', 'pipe', 'pipe'],
});
let log = '';
emulator.stderr.on('data', (data) => (log += data));
emulator.on('error', (error) => (log += `${error.message}; has \`make setup\` been run?\n`));
const exited = new Promise((resolve) => emulator.on('close', resolve));

/** What the emulator says of itself when it is ready; undefined if it never is. */
async function ready() {
  const timer = setTimeout(() => emulator.kill('SIGKILL'), START_LIMIT_MS);
  for await (const line of createInterface({ input: emulator.stdout })) {
    clearTimeout(timer);
    return JSON.parse(line);
  }
  clearTimeout(timer);
}

async function run(facts) {
  const files = readdirSync(HERE).filter((name) => name.endsWith('.test.js'));
  const tests = spawn(process.execPath, ['--test', '--test-reporter=spec', ...files], {
    cwd: HERE,
    env: { ...environment, NODE_EXTRA_CA_CERTS: facts.ca_file, EMULATOR: JSON.stringify(facts), NO_PROXY: 'localhost' },
    stdio: 'inherit',
  });
  return new Promise((resolve) => tests.on('close', (code) => resolve(code ?? 1)));
}

const facts = await ready();
let code = facts ? await run(facts) : 1;
emulator.kill('SIGTERM');
const ended = await exited;
if (ended !== 0 || log.includes('"level": "error"')) {
  console.error(`the emulator ended with ${ended} and said:\n${log}`);
  code ||= 1;
}
process.exitCode = code;
