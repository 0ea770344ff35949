// A caller of Parley on bare stubs: @grpc/grpc-js, @grpc/proto-loader and proto/parley/v1, nothing else of Parley.
//
//     npm ci
//     node caller.js --target HOST:PORT --text "where is my order 4711"
//     node caller.js --target HOST:PORT --wav question.wav --out reply.pcm
//
// It holds one conversation by docs/converse.md: it opens (again, with the same request id, while that can succeed),
// speaks or types, acks what it plays, empties its playout queue on a barge-in, resumes on another connection when the
// stream is lost, ends, and prints each event as a line of JSON. `parley conformance` holds it to the contract.
import { randomUUID } from 'node:crypto';
import { once, EventEmitter } from 'node:events';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

const PROTO = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..', 'proto');
const definitions = protoLoader.loadSync(['parley/v1/live.proto', 'parley/v1/errors.proto'], {
  includeDirs: [PROTO],
  keepCase: true,
  longs: Number, // numbers of messages stay below 2^53
  enums: String,
  oneofs: true, // `message.payload` is the name of the field that is set
  defaults: true,
});
const { LiveService } = grpc.loadPackageDefinition(definitions).parley.v1;
/** A message of parley.v1 from its bytes. */
const decode = (name, bytes) => definitions[`parley.v1.${name}`].deserialize(bytes);

const RATE = 16_000;
const FRAME_MS = 40;
/** Messages kept for a resume (a minute of speech); then the microphone waits. */
const MAX_UNACKED = 1500;
/** Between two acks, at least: the service sends at most 400 ms of audio beyond the last one. */
const ACK_EVERY_MS = 100;
/** In which a session must be open, with every repetition. */
const OPEN_LIMIT_MS = 30_000;

/** Beside UNAVAILABLE, what gRPC calls a connection or a gateway that is gone. The service gives a reason with them. */
const BROKEN_OFF = [grpc.status.CANCELLED, grpc.status.INTERNAL];

/** The stream is over, the conversation is not: try again after `delay` milliseconds. */
class Lost extends Error {
  constructor(why, delay) {
    super(why);
    this.delay = delay;
  }
}

/** The conversation is over, and trying again would not help. */
class Failed extends Error {}

const report = (event, facts = {}) => console.log(JSON.stringify({ event, ...facts }));
const milliseconds = (duration) => duration.seconds * 1000 + duration.nanos / 1e6;

/** What outlives a stream. Emits `changed` whenever anything that somebody may wait for did. */
class Conversation extends EventEmitter {
  requestId = `bare-${randomUUID()}`; // the same for every repetition of this open
  opened = null;
  unacked = new Map();
  lastSeq = 0; // number of the newest message to the model
  received = 0; // number up to which everything from the model was received or voided
  playout = []; // { seq, pcm, ms }
  answered = false;
  ended = null;
  over = false;

  constructor(profile, out) {
    super();
    this.setMaxListeners(0);
    this.profile = profile;
    this.out = out;
  }

  /** Number a message and keep it until it is acked; the stream of the moment sends it. */
  async say(payload) {
    await this.until(() => this.unacked.size < MAX_UNACKED);
    this.lastSeq += 1;
    this.unacked.set(this.lastSeq, { seq: this.lastSeq, ...payload });
    this.emit('changed');
  }

  /** The first message of the next stream. */
  opening() {
    if (!this.opened) return { open: { request_id: this.requestId, profile: this.profile } };
    const { session_id, resume_token } = this.opened;
    return { open: { resume: { session_id, resume_token, last_received_seq: this.received } } };
  }

  /** One response. */
  take(response) {
    for (const seq of this.unacked.keys()) if (seq <= response.acked_seq) this.unacked.delete(seq);
    if (response.seq && response.seq <= this.received) return; // sent again; we have it
    this.received = Math.max(this.received, response.seq);
    const kind = response.payload;
    const content = response[kind];
    if (kind === 'audio') {
      const pcm = Buffer.concat(content.frames);
      this.playout.push({ seq: response.seq, pcm, ms: (pcm.length / 2 / (content.sample_rate_hertz || 24_000)) * 1000 });
    } else if (kind === 'interrupted') {
      // Also what was received before and not played yet, not only the range that the service names.
      this.playout = this.playout.filter(({ seq }) => seq > response.seq);
      this.answered = false;
      report(kind, { seq: response.seq });
    } else if (kind === 'generation_complete') {
      this.answered = true;
      report(kind);
    } else if (kind === 'ended') {
      this.ended = content;
      report(kind, content);
    } else if (kind === 'input_transcript' || kind === 'output_transcript') {
      report(kind, { text: content.text });
    } else if (kind === 'gap') {
      report(kind, { first: content.from_seq, last: content.to_seq, reason: content.reason });
    } else if (kind) {
      report(kind); // a payload of a newer release has no name here: passed over, acked like the rest
    }
    this.emit('changed');
  }

  /** Up to here everything was received or voided, and its audio has begun to play. */
  ackable() {
    return this.playout.length ? this.playout[0].seq - 1 : this.received;
  }

  /** A loudspeaker: plays what is queued in real time. */
  async play() {
    while (await this.until(() => this.playout.length)) {
      const { seq, pcm, ms } = this.playout.shift();
      report('played', { seq });
      if (this.out !== null) writeSync(this.out, pcm);
      this.emit('changed');
      await sleep(ms);
    }
  }

  /** Wait for a condition; false when the conversation was over before. */
  async until(condition) {
    while (!this.over && !condition()) await once(this, 'changed');
    return !this.over;
  }
}

/** Hold one stream until it ends. Lost: resume, or open again. Failed: neither. */
function hold(talk, target, metadata) {
  // A connection of its own: another stream on an old one would reach the same, draining gateway.
  const client = new LiveService(target, grpc.credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  const call = client.Converse(metadata);
  let nextSeq = 0; // number of the next message to send; 0: none may be sent
  let wasOpen = false;
  let acked = 0;
  let blocked = false; // gRPC's buffer is full
  let draining = false;

  function write(request) {
    if (!call.write(request)) {
      blocked = true;
      call.once('drain', () => {
        blocked = false;
        send();
      });
    }
  }
  function send() {
    while (nextSeq && !blocked && talk.unacked.has(nextSeq)) {
      const request = talk.unacked.get(nextSeq);
      nextSeq += 1;
      write(request);
      if (request.end) {
        nextSeq = 0; // nothing may follow
        call.end();
      }
    }
  }
  function ack() {
    if (!nextSeq || blocked || talk.ackable() <= acked) return;
    acked = talk.ackable();
    write({ ack: { seq: acked } });
  }
  const acks = setInterval(ack, ACK_EVERY_MS);
  talk.on('changed', send);

  write(talk.opening());
  call.on('data', (response) => {
    if (response.payload === 'opened') {
      const { session_id: session, existing, next_uplink_seq } = response.opened;
      report('opened', { session, existing, next_uplink_seq });
      talk.opened = response.opened;
      wasOpen = true;
      nextSeq = next_uplink_seq;
      send();
    } else if (response.payload === 'gateway_draining') {
      report('gateway_draining');
      draining = true;
      call.cancel();
    } else {
      talk.take(response);
    }
  });
  return new Promise((resolve, reject) => {
    call.on('error', () => {}); // `status` says the same, also for a call that ended well
    call.on('status', (status) => {
      clearInterval(acks);
      talk.off('changed', send);
      client.close();
      nextSeq = 0;
      if (talk.ended || status.code === grpc.status.OK) resolve();
      else reject(Object.assign(draining ? new Lost('the gateway is draining', 0) : verdict(status), { wasOpen }));
    });
  });
}

/** What a status means: docs/converse.md, "Status codes". */
function verdict({ code, details, metadata }) {
  let reason = '';
  let delay;
  for (const bytes of metadata.get('grpc-status-details-bin')) {
    for (const { type_url, value } of statusDetails(bytes)) {
      if (type_url.endsWith('google.rpc.ErrorInfo')) reason = decode('ErrorInfoDetail', value).reason;
      else if (type_url.endsWith('google.rpc.RetryInfo')) delay = milliseconds(decode('RetryInfoDetail', value).retry_delay);
    }
  }
  const why = `${grpc.status[code]} (${reason || 'no reason'}): ${details}`;
  const lost = delay !== undefined || code === grpc.status.UNAVAILABLE || (!reason && BROKEN_OFF.includes(code));
  return lost ? new Lost(why, delay) : new Failed(why);
}

const statusDetails = (bytes) => decode('StatusDetails', bytes).details;

/** Stream after stream until the conversation is over. Failed: it could not be brought to its end. */
async function converse(talk, target, metadata) {
  let limit = Date.now() + OPEN_LIMIT_MS;
  let backoff = 100;
  for (;;) {
    try {
      await hold(talk, target, metadata);
      if (!talk.ended) throw new Failed('the service ended the stream, not the session');
      if (talk.ended.reason !== 'END_REASON_CALLER') throw new Failed(`the session ended: ${talk.ended.message}`);
      return;
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      if (error.wasOpen) {
        // From now on the session waits for us, but not longer than it said.
        limit = Date.now() + milliseconds(talk.opened.resume_window);
        backoff = 100;
      }
      const delay = error.delay ?? backoff * (0.5 + Math.random() / 2);
      backoff = Math.min(2000, backoff * 2);
      if (Date.now() + delay > limit) throw new Failed(`given up: ${error.message}`);
      report('lost', { why: error.message, delay });
      await sleep(Math.ceil(delay) + 1); // a timer may be early by a part of a millisecond
    }
  }
}

/** Wait until the whole answer has played. Not for `turn_complete`: that one may come with a tool call. */
const heard = (talk) => talk.until(() => talk.answered && !talk.playout.length);

/** What this caller has to say: the speech, then each text when the answer before it was heard. */
async function ask(talk, { texts, wav, bargeInAfter }) {
  if (wav) {
    const speech = samples(wav);
    const frame = (RATE * FRAME_MS * 2) / 1000;
    const started = Date.now();
    for (let at = 0; at < speech.length; at += frame) {
      await sleep(Math.max(0, started + (at / frame) * FRAME_MS - Date.now()));
      await talk.say({ audio: { frames: [speech.subarray(at, at + frame)] } });
    }
    await talk.say({ audio_stream_end: {} });
    if (!(await heard(talk))) return;
  }
  for (const [number, text] of texts.entries()) {
    talk.answered = false;
    await talk.say({ text: { text } });
    if (bargeInAfter && number === 0 && texts.length > 1) {
      if (!(await talk.until(() => talk.playout.length))) return;
      await sleep(bargeInAfter * 1000);
    } else if (!(await heard(talk))) {
      return;
    }
  }
  await talk.say({ end: { reason: 'done' } });
}

/** The samples of a WAV file; Failed when it is not 16 kHz, mono, 16 bit. */
function samples(file) {
  const wav = readFileSync(file);
  let right = false;
  for (let at = 12; at + 8 <= wav.length; at += 8 + wav.readUInt32LE(at + 4) + (wav.readUInt32LE(at + 4) % 2)) {
    const name = wav.toString('latin1', at, at + 4);
    if (name === 'fmt ') {
      right = wav.readUInt16LE(at + 10) === 1 && wav.readUInt32LE(at + 12) === RATE && wav.readUInt16LE(at + 22) === 16;
    } else if (name === 'data' && right) {
      return wav.subarray(at + 8, at + 8 + wav.readUInt32LE(at + 4));
    }
  }
  throw new Failed(`${file}: 16 kHz, mono, 16 bit is what a session takes by default`);
}

async function main() {
  const text = (value) => ({ type: 'string', default: value });
  const { values } = parseArgs({
    options: {
      target: text(process.env.PARLEY_TARGET ?? '127.0.0.1:50051'),
      profile: text('support'),
      'api-key': text(process.env.PARLEY_API_KEY ?? ''),
      wav: text(''), // a question, 16 kHz mono 16 bit
      text: { type: 'string', multiple: true, default: [] }, // a typed question; may be repeated
      'barge-in-after': text('0'), // type the second text so many seconds into the answer
      out: text(''), // file for what was played, raw PCM
    },
  });
  const metadata = new grpc.Metadata();
  if (values['api-key']) metadata.set('authorization', `Bearer ${values['api-key']}`);
  if (process.env.TRACEPARENT) metadata.set('traceparent', process.env.TRACEPARENT);
  const out = values.out ? openSync(values.out, 'w') : null;
  const talk = new Conversation(values.profile, out);
  const texts = values.text.length || values.wav ? values.text : ['hello'];
  const questions = { texts, wav: values.wav, bargeInAfter: Number(values['barge-in-after']) };
  const over = () => {
    talk.over = true;
    talk.playout = [];
    talk.emit('changed');
  };
  try {
    // Whichever fails first ends the others.
    await Promise.all([
      converse(talk, values.target, metadata).finally(over),
      ask(talk, questions),
      talk.play(),
    ]);
  } finally {
    over();
    if (out !== null) closeSync(out);
  }
}

main().catch((error) => {
  console.error(`caller: ${error instanceof Failed ? error.message : error.stack}`);
  process.exit(1);
});
