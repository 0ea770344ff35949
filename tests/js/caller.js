// What every test needs: clients of the emulator, sessions whose messages can be waited for, and recorded speech.
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import path from 'node:path';
import { afterEach } from 'node:test';
import { GoogleGenAI } from '@google/genai';

export const emulator = JSON.parse(process.env.EMULATOR);
// The certificate is good for both names; IPv6 loopback would not be listened on.
export const ADDRESS = emulator.address.replace('127.0.0.1', 'localhost');
export const MODEL = 'gemini-3.8-live';
const LIMIT_MS = 20_000;
const RATE = 16_000;

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
const SPEECH = [path.join(ROOT, 'tests', 'data', 'speech'), path.join(ROOT, 'parley', 'cli', 'demo_data')];

// A test that fails must not leave a socket that keeps the process alive.
const open = new Set();
afterEach(async () => {
  for (const call of open) await call.close();
});

/** A client; `switches` and `conversation` go as headers, like any application's own. */
export function client({ apiKey = 'key', baseUrl = ADDRESS, switches = '', conversation = '', ...options } = {}) {
  const headers = {};
  if (switches) headers['x-emulator-switches'] = switches;
  if (conversation) headers['x-emulator-conversation'] = conversation;
  const { apiVersion, ...rest } = options;
  return new GoogleGenAI({ apiKey, httpOptions: { baseUrl, headers, ...(apiVersion && { apiVersion }) }, ...rest });
}

/** What was asked of the record, which the control API keeps. */
export async function record(conversation) {
  const response = await fetch(`${emulator.control}/conversations/${conversation}`);
  return response.json();
}

/** A live session and its messages, in order. */
export class Call {
  #messages = [];
  #waiting = null;
  closed = null;

  static async connect(ai, config = {}, model = MODEL) {
    const call = new Call();
    call.session = await within(
      ai.live.connect({
        model,
        config,
        callbacks: {
          onmessage: (message) => call.#put(message),
          onerror: (event) => call.#end({ code: 1006, reason: event.message }),
          onclose: (event) => call.#end({ code: event.code, reason: event.reason }),
        },
      }),
      'connecting',
    );
    open.add(call);
    return call;
  }

  /** The next message; rejects when the session is closed. */
  async next() {
    while (this.#messages.length === 0) {
      if (this.closed) throw new Error(`closed with ${this.closed.code}: ${this.closed.reason}`);
      await within(new Promise((resolve) => (this.#waiting = resolve)), 'a message');
    }
    return this.#messages.shift();
  }

  /** All messages up to the first that `last` is true of. */
  async until(last) {
    const messages = [];
    do messages.push(await this.next());
    while (!last(messages.at(-1)));
    return messages;
  }

  /** All messages of one turn, and what they amount to. */
  async turn() {
    return new Turn(await this.until((message) => message.serverContent?.turnComplete));
  }

  /** How the session ended. */
  async ended() {
    while (!this.closed) {
      await within(new Promise((resolve) => (this.#waiting = resolve)), 'the end');
    }
    return this.closed;
  }

  /** A recorded question and the second of silence that ends it, as fast as the socket takes it. */
  speak(name) {
    const audio = Buffer.concat([speech(name), Buffer.alloc(2 * RATE)]);
    for (let at = 0; at < audio.length; at += 1280) {
      const data = audio.subarray(at, at + 1280).toString('base64');
      this.session.sendRealtimeInput({ audio: { data, mimeType: `audio/pcm;rate=${RATE}` } });
    }
    return audio.length;
  }

  /** Closes and waits for it: a session can be resumed only then. */
  async close() {
    this.session.close();
    return this.ended();
  }

  #put(message) {
    this.#messages.push(message);
    this.#wake();
  }

  #end(how) {
    this.closed ??= how;
    open.delete(this);
    this.#wake();
  }

  #wake() {
    this.#waiting?.();
    this.#waiting = null;
  }
}

class Turn {
  constructor(messages) {
    this.messages = messages;
    const contents = messages.map((message) => message.serverContent).filter(Boolean);
    this.flags = contents.flatMap((content) =>
      ['interrupted', 'generationComplete', 'turnComplete'].filter((flag) => content[flag]),
    );
    this.heard = contents.map((content) => content.inputTranscription?.text).filter(Boolean);
    this.said = contents.map((content) => content.outputTranscription?.text ?? '').join('').trim();
    this.calls = messages.flatMap((message) => message.toolCall?.functionCalls ?? []);
    this.audioSeconds =
      messages.map((message) => Buffer.from(message.data ?? '', 'base64').length).reduce((a, b) => a + b, 0) / 48_000;
  }
}

/** The PCM of a recorded question (16 kHz, mono, 16 bit). */
export function speech(name) {
  const file = SPEECH.map((folder) => path.join(folder, `${name}.wav`)).find((candidate) => existsSync(candidate));
  return readFileSync(file).subarray(44);
}

async function within(promise, what) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}
