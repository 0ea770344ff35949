// Ephemeral tokens: made by the server side's SDK, used by the client side's.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Call, client } from './caller.js';

const create = (config, options) => client(options).authTokens.create({ config });
const holder = (token, options) => client({ apiKey: token.name, apiVersion: 'v1alpha', ...options });

test('a token starts as many sessions as it has uses', async () => {
  const token = await create({ uses: 1 });
  assert.match(token.name, /^auth_tokens\/[0-9a-f]{64}$/);
  const call = await Call.connect(holder(token));
  call.session.sendRealtimeInput({ text: 'hello' });
  await call.turn();
  await call.close();
  await assert.rejects(Call.connect(holder(token)), /code 1008\): The auth token has no uses left\./);
});

test('resuming costs no use', async () => {
  const token = await create({});
  const first = await Call.connect(holder(token), { sessionResumption: {} });
  first.session.sendRealtimeInput({ text: 'hello' });
  const messages = await first.until((message) => message.sessionResumptionUpdate?.newHandle);
  await first.close();
  const { newHandle } = messages.at(-1).sessionResumptionUpdate;
  const second = await Call.connect(holder(token), { sessionResumption: { handle: newHandle } });
  await second.close();
});

test('what the token locks is not for the client to choose', async () => {
  const liveConnectConstraints = { model: 'gemini-3.8-live', config: { outputAudioTranscription: {} } };
  const all = await create({ liveConnectConstraints });
  const locked = await Call.connect(holder(all), { tools: [{ codeExecution: {} }] }, 'gemini-none');
  locked.session.sendRealtimeInput({ text: 'hello' });
  assert.equal((await locked.turn()).said, 'hello how can i help you');
  await locked.close();

  const some = await create({ liveConnectConstraints, lockAdditionalFields: ['tools', 'temperature'] });
  const config = { tools: [{ codeExecution: {} }], inputAudioTranscription: {} };
  const partly = await Call.connect(holder(some), config);
  await partly.close();

  const set = await create({ liveConnectConstraints, lockAdditionalFields: [] });
  await assert.rejects(Call.connect(holder(set), config), /code 1007\): Code Execution tool is not supported/);
});

test('a session ends when its token expires', async () => {
  // Half an hour in three seconds, in all of which it starts sessions: a busy machine may be slow to connect.
  const until = new Date(Date.now() + 1_800_000).toISOString();
  const token = await create({ expireTime: until, newSessionExpireTime: until }, { switches: 'time_scale=600' });
  const call = await Call.connect(holder(token));
  assert.deepEqual(await call.ended(), { code: 1008, reason: 'The auth token has expired.' });
});

test('a token that could no longer start sessions, and one on the wrong method', async () => {
  const late = await create(
    { newSessionExpireTime: new Date(Date.now() + 1000).toISOString() },
    { switches: 'time_scale=10000' },
  );
  await assert.rejects(Call.connect(holder(late)), /code 1008\): The auth token no longer starts new sessions/);
  await assert.rejects(Call.connect(client({ apiKey: 'auth_tokens/unknown' })), /code 1008\): Method doesn't allow/);
});

test('errors of the REST call arrive with their status and text', async () => {
  const past = new Date(Date.now() - 1000).toISOString();
  for (const [config, options, status, text] of [
    [{ expireTime: past }, {}, 400, 'expire_time must be in the future'],
    [{ lockAdditionalFields: ['nonsense'] }, {}, 400, "'nonsense' is not a path"],
    [{}, { apiKey: 'wrong' }, 400, 'API_KEY_INVALID'],
    [{}, { apiVersion: 'v2' }, 404, 'Method not found'],
  ]) {
    await assert.rejects(create(config, options), (error) => error.status === status && error.message.includes(text));
  }
});
