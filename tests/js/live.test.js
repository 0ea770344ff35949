// Conversations: turns in text and speech, tools, barge-in, resumption, goAway.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { Behavior } from '@google/genai';
import { ADDRESS, Call, client, emulator, record } from './caller.js';

const WEATHER = {
  functionDeclarations: [
    {
      name: 'get_weather',
      parametersJsonSchema: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
    },
  ],
};
const ORDER = {
  functionDeclarations: [
    {
      name: 'lookup_order',
      behavior: Behavior.BLOCKING,
      parametersJsonSchema: { type: 'object', properties: { order_id: { type: 'string' } }, required: ['order_id'] },
    },
  ],
};

test('a typed turn is answered in speech', async () => {
  const call = await Call.connect(client(), { outputAudioTranscription: {} });
  assert.ok(call.session.setupComplete);
  call.session.sendClientContent({ turns: 'Hello!' });
  const turn = await call.turn();
  assert.equal(turn.said, 'hello how can i help you');
  assert.deepEqual(turn.flags, ['generationComplete', 'turnComplete']);
  assert.ok(turn.audioSeconds > 0.5);
  const usage = turn.messages.at(-1).usageMetadata;
  assert.equal(usage.responseTokenCount, Math.round(25 * turn.audioSeconds));
  assert.equal((await call.close()).code, 1000);
});

test('a spoken question is understood, to the last byte', async () => {
  const conversation = randomUUID();
  const call = await Call.connect(client({ conversation }), { inputAudioTranscription: {} });
  const sent = call.speak('hello');
  const turn = await call.turn();
  assert.deepEqual(turn.heard, ['hello']);
  assert.ok(turn.audioSeconds > 0.5);
  assert.equal((await record(conversation)).audio.bytes, sent);
  await call.close();
});

test('a spoken question calls its tool, and the result is in the reply', async () => {
  const call = await Call.connect(client(), { tools: [WEATHER], outputAudioTranscription: {} });
  call.speak('weather_paris');
  const turn = await call.turn();
  assert.deepEqual(
    turn.calls.map(({ name, args }) => ({ name, args })),
    [{ name: 'get_weather', args: { city: 'paris' } }],
  );
  const [{ id, name }] = turn.calls;
  const response = { output: { condition: 'snowy', temperature_celsius: -7 } };
  call.session.sendToolResponse({ functionResponses: [{ id, name, response }] });
  assert.equal((await call.turn()).said, 'it is snowy in paris and minus seven degrees');
  await call.close();
});

test('a blocking call holds its turn until it is answered', async () => {
  const call = await Call.connect(client(), { tools: [ORDER], outputAudioTranscription: {} });
  call.speak('order_1234');
  const before = await call.until((message) => message.toolCall);
  assert.ok(!before.some((message) => message.serverContent?.turnComplete));
  const [{ id, name, args }] = before.at(-1).toolCall.functionCalls;
  assert.deepEqual(args, { order_id: '1234' });
  const response = { order_id: '1234', status: 'delayed', arrives: 'thursday' };
  call.session.sendToolResponse({ functionResponses: [{ id, name, response }] });
  const turn = await call.turn();
  assert.deepEqual(turn.flags, ['generationComplete', 'turnComplete']);
  assert.match(turn.said, /order one two three four is delayed and arrives on thursday/);
  await call.close();
});

test('speaking into an answer stops it', async () => {
  const ai = client({ switches: 'generation_speed=2; playback_speed=1' });
  const call = await Call.connect(ai);
  call.speak('tell_me_about_your_service');
  await call.until((message) => message.data);
  call.speak('hello');
  const cut = await call.turn();
  assert.deepEqual(cut.flags, ['interrupted', 'turnComplete']);
  const next = await call.turn();
  assert.deepEqual(next.heard, ['hello']);
  assert.deepEqual(next.flags, ['generationComplete', 'turnComplete']);
  await call.close();
});

test('a handle brings back what was known, and an open session cannot be resumed', async () => {
  const ai = client();
  const first = await Call.connect(ai, { sessionResumption: {} });
  for (let picture = 0; picture < 3; picture++) {
    first.session.sendRealtimeInput({ video: { data: '/9j/2Q==', mimeType: 'image/jpeg' } });
  }
  first.session.sendRealtimeInput({ text: 'hello' });
  const messages = await first.until((message) => message.sessionResumptionUpdate?.newHandle);
  const handle = messages.at(-1).sessionResumptionUpdate.newHandle;
  await assert.rejects(Call.connect(ai, { sessionResumption: { handle } }), /code 1011/);
  await first.close();

  const second = await Call.connect(ai, { sessionResumption: { handle }, outputAudioTranscription: {} });
  second.session.sendRealtimeInput({ text: 'what do you see' });
  assert.equal((await second.turn()).said, 'i see three pictures');
  await second.close();
});

test('a dead handle is refused', async () => {
  const config = { sessionResumption: { handle: 'gone' } };
  await assert.rejects(Call.connect(client(), config), /code 1008\): BidiGenerateContent session not found/);
});

test('goAway comes before the connection ends at its limit', async () => {
  const switches = 'connection_limit=3s; go_away_lead=2s; go_away_jitter=0s';
  const call = await Call.connect(client({ switches }));
  const messages = await call.until((message) => message.goAway);
  assert.match(messages.at(-1).goAway.timeLeft, /^\d+(\.\d+)?s$/);
  const { code, reason } = await call.ended();
  assert.equal(code, 1008);
  assert.match(reason, /GoAway/);
});

test('without TLS, by an http base URL', async () => {
  const baseUrl = emulator.plain_address;
  const call = await Call.connect(client({ baseUrl }), { outputAudioTranscription: {} });
  call.session.sendRealtimeInput({ text: 'hello' });
  assert.equal((await call.turn()).said, 'hello how can i help you');
  await call.close();
});

for (const apiVersion of ['v1', 'v1beta', 'v1alpha']) {
  test(`version ${apiVersion} by a base URL with a prefix`, async () => {
    const call = await Call.connect(client({ apiVersion, baseUrl: `${ADDRESS}/prefix/` }));
    await call.close();
  });
}

test('the Vertex path, with an express key', async () => {
  const call = await Call.connect(client({ vertexai: true }), { outputAudioTranscription: {} });
  call.session.sendClientContent({ turns: 'hello' });
  const turn = await call.turn();
  assert.equal(turn.said, 'hello how can i help you');
  await call.close();
});

test('switches by the path of the base URL, for browsers, which send no headers', async () => {
  const conversation = randomUUID();
  const baseUrl = `${ADDRESS}/x-emulator-conversation=${conversation}`;
  const call = await Call.connect(client({ baseUrl }));
  await call.close();
  assert.equal((await record(conversation)).links.length, 1);
});

test('a wrong key and a wrong model are refused', async () => {
  await assert.rejects(Call.connect(client({ apiKey: 'wrong' })), /code 1007\): API key not valid/);
  await assert.rejects(
    Call.connect(client({ apiVersion: 'v1beta' }), {}, 'gemini-none'),
    /code 1008\): models\/gemini-none is not found for API version v1beta/,
  );
});
