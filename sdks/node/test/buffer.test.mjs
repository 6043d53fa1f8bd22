// The buffer: flushed by size and time, bounded, and never the place where an event is lost.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { BufferFullError, ClientClosedError, DeliveryFailedError } from '@stripemeter/sdk-node';

import { PATIENT, runNode, setUp } from '../test-support/setup.mjs';

test('the buffer is sent when a batch is together', async (t) => {
  const { server, make } = await setUp(t);
  const client = make({ batchSize: 10 });
  const keys = Array.from({ length: 10 }, (_, quantity) => client.buffer({ metric: 'm', quantity }));
  await server.waitFor(() => server.requests.length === 1);
  assert.deepEqual(server.requests[0].events.map(({ idempotencyKey }) => idempotencyKey), keys);
});

test('the buffer is sent when the oldest event has waited', async (t) => {
  const { server, make } = await setUp(t);
  make({ flushInterval: 20 }).buffer({ metric: 'm' });
  const keepAlive = setInterval(() => {}, 1000);
  await server.waitFor(() => server.total === 1);
  clearInterval(keepAlive);
});

test('a steady trickle does not put the timed flush off', async (t) => {
  const { server, make } = await setUp(t);
  const client = make({ flushInterval: 100, batchSize: 1000 });
  const trickle = setInterval(() => client.buffer({ metric: 'm' }), 10);
  await server.waitFor(() => server.requests.length >= 2);
  clearInterval(trickle);
});

test('flush sends all and answers for each event', async (t) => {
  const { server, make } = await setUp(t);
  const client = make({ batchSize: 1000 });
  for (let i = 0; i < 300; i += 1) client.buffer({ metric: 'm', meta: { text: 'x'.repeat(5000) } });
  const result = await client.flush();
  assert.deepEqual([result.accepted, client.pending, server.requests.length], [300, 0, 2]);
  assert.equal(await client.flush(), null);
});

test('a failed flush rejects and keeps the events', async (t) => {
  const { server, make } = await setUp(t);
  const client = make({ retryAttempts: 1 });
  const keys = [1, 2, 3].map((quantity) => client.buffer({ metric: 'm', quantity }));
  server.faults.push('500_after_apply', '503');
  const error = await client.flush().catch((caught) => caught);
  assert.ok(error instanceof DeliveryFailedError);
  assert.deepEqual(error.events.map(({ idempotencyKey }) => idempotencyKey), keys);
  assert.equal(client.pending, 3);
  assert.equal((await client.flush()).duplicates, 3);
  assert.equal(server.total, 6);
});

test('a failed background flush is reported, tried again, and no unhandled rejection', async (t) => {
  const { server, make, reported } = await setUp(t);
  server.faults.push('503', '503', '401', 'drop');
  const client = make({ batchSize: 2, retryAttempts: 0 });
  client.buffer({ metric: 'm' });
  client.buffer({ metric: 'm' });
  const keepAlive = setInterval(() => {}, 1000);
  await server.waitFor(() => server.requests.length === 5);
  clearInterval(keepAlive);
  await client.flush();
  assert.equal(server.total, 2);
  assert.deepEqual(reported.map(({ error }) => error.statusCode), [503, 503, 401, undefined]);
});

test('a poisoned batch is not sent for ever', async (t) => {
  const { server, make, reported } = await setUp(t);
  server.refuseMetric = 'bad';
  const client = make();
  ['good', 'bad', 'good'].forEach((metric) => client.buffer({ metric }));
  const result = await client.flush();
  assert.deepEqual(result.results.map(({ status }) => status), ['accepted', 'error', 'accepted']);
  assert.deepEqual([client.pending, server.requests.length, reported.length], [0, 2, 1]);
});

test('flush does not wait for a background pause', async (t) => {
  const { server, make } = await setUp(t);
  server.faults.push('503');
  const client = make({ batchSize: 1, retryPolicy: PATIENT });
  client.buffer({ metric: 'm' });
  await server.waitFor(() => server.requests.length === 1);
  assert.equal((await client.flush()).accepted, 1);
});

test('an event after an outage does not wait for the pause of the outage', async (t) => {
  const { server, make, reported } = await setUp(t);
  server.faults.push('429:3600');
  const client = make({ batchSize: 10, flushInterval: 20 });
  const keepAlive = setInterval(() => {}, 1000);
  client.buffer({ metric: 'm' });
  while (reported.length === 0) await new Promise(setImmediate);
  await new Promise(setImmediate); // the pause is timed now
  await client.flush();
  client.buffer({ metric: 'm' });
  await server.waitFor(() => server.total === 2);
  clearInterval(keepAlive);
});

test('a full buffer throws and drops nothing', async (t) => {
  const { server, make } = await setUp(t);
  const client = make({ batchSize: 5, maxBuffered: 5 });
  for (let i = 0; i < 5; i += 1) client.buffer({ metric: 'm' });
  assert.throws(() => client.buffer({ metric: 'm' }), BufferFullError);
  await client.flush();
  client.buffer({ metric: 'm' });
  await client.flush();
  assert.equal(server.total, 6);
});

test('a caller can wait for room', async (t) => {
  const { server, make } = await setUp(t);
  const client = make({ batchSize: 5, maxBuffered: 5 });
  server.faults.push('drop_after_apply', '503', '500_after_apply', 'drop');
  await Promise.all(Array.from({ length: 500 }, () => client.bufferWhenRoom({ metric: 'm' })));
  await client.flush();
  assert.equal(server.total, 500);
});

test('a waiting caller is let go by close', async (t) => {
  const { server, make } = await setUp(t);
  server.faults.push('503');
  const client = make({ batchSize: 1, maxBuffered: 1, retryPolicy: PATIENT });
  client.buffer({ metric: 'm' });
  await server.waitFor(() => server.requests.length === 1);
  const waiting = client.bufferWhenRoom({ metric: 'm' });
  await Promise.all([client.close(), assert.rejects(waiting, ClientClosedError)]);
  assert.equal(server.total, 1);
});

test('close delivers the buffer and keeps trying', async (t) => {
  const { server, make } = await setUp(t);
  const client = make({ retryAttempts: 0 });
  client.buffer({ metric: 'm', quantity: 3 });
  server.faults.push('503', '503', '503');
  await client.close(30_000);
  assert.equal(server.total, 3);
});

test('close hands back what it could not deliver', async (t) => {
  const { server, make } = await setUp(t);
  const client = make();
  const key = client.buffer({ metric: 'm', quantity: 3 });
  server.faults.push('401');
  const error = await client.close().catch((caught) => caught);
  assert.deepEqual(error.events.map(({ idempotencyKey }) => idempotencyKey), [key]);
  assert.equal((await make().trackBatch(error.events)).accepted, 1);
});

test('an onError that throws does no harm', async (t) => {
  const { server, make } = await setUp(t);
  server.faults.push('503');
  const client = make({ batchSize: 1, retryAttempts: 0, onError: () => { throw new Error('x'); } });
  client.buffer({ metric: 'm' });
  const keepAlive = setInterval(() => {}, 1000);
  await server.waitFor(() => server.requests.length === 2);
  clearInterval(keepAlive);
  assert.equal(server.total, 1);
});

const LEAVES = `
  import { createClient } from '@stripemeter/sdk-node';
  const client = createClient({ apiUrl: process.argv[1], tenantId: 'acme', customerId: 'c1',
    closeTimeout: Number(process.argv[2]), retryAttempts: 1 });
  for (let i = 0; i < 7; i += 1) client.buffer({ metric: 'm' });
`;

test('the buffer is sent when the process ends', async (t) => {
  const { server } = await setUp(t);
  server.faults.push('503');
  const done = await runNode(LEAVES, server.url, '30000');
  assert.deepEqual(done, { code: 0, signal: null, stdout: '', stderr: '' });
  assert.equal(server.total, 7);
});

test('a process whose caller waits for room stays alive over an outage', async (t) => {
  const { server } = await setUp(t);
  server.faults.push('503', '503', '503');
  const waits = `
    import { createClient } from '@stripemeter/sdk-node';
    const client = createClient({ apiUrl: process.argv[1], tenantId: 'acme', customerId: 'c1',
      batchSize: 2, maxBuffered: 2, retryAttempts: 0, closeTimeout: 1, onError: () => {} });
    for (let i = 0; i < 7; i += 1) await client.bufferWhenRoom({ metric: 'm' });
    await client.close(30000);
  `;
  const done = await runNode(waits, server.url);
  assert.deepEqual(done, { code: 0, signal: null, stdout: '', stderr: '' });
  assert.equal(server.total, 7);
});

test('an outage does not crash the host process, and its end says what is lost', async () => {
  const crashing = `${LEAVES}
    process.on('unhandledRejection', () => console.log('UNHANDLED'));
    client.flush().catch(() => {});
    for (let i = 0; i < 200; i += 1) client.buffer({ metric: 'm' });
    setTimeout(() => console.log('still here'), 300);
  `;
  const { code, stdout, stderr } = await runNode(crashing, 'http://127.0.0.1:9', '300');
  assert.deepEqual([code, stdout], [0, 'still here\n']);
  assert.match(stderr, /ended with 207 undelivered events/);
});
