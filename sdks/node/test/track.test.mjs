// Sending now: what goes over the wire, what is retried, and what becomes of refused events.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  ClientClosedError, DeliveryFailedError, EventConflictError, EventRejectedError,
  InvalidEventError, createClient,
} from '@stripemeter/sdk-node';

import { setUp } from '../test-support/setup.mjs';

const UUID7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

test('an event goes over the wire as the contract says', async (t) => {
  const { server, make } = await setUp(t);
  const result = await make().track({
    metric: 'api_calls', quantity: 1.5, ts: '2026-11-01T12:00:00.123456+02:00', resourceId: 'r1',
    meta: { a: [1, null] },
  });
  const { idempotencyKey, ...event } = server.requests[0].events[0];
  assert.deepEqual(event, {
    tenantId: 'acme', metric: 'api_calls', customerRef: 'c1', quantity: 1.5,
    ts: '2026-11-01T10:00:00.123456Z', source: 'sdk', resourceId: 'r1', meta: { a: [1, null] },
  });
  assert.match(idempotencyKey, UUID7);
  assert.equal(server.requests[0].headers.authorization, 'Bearer sm_test_key');
  assert.equal(server.requests[0].headers['content-type'], 'application/json');
  assert.equal(result.accepted, 1);
  assert.equal(result.results[0].idempotencyKey, idempotencyKey);
  assert.ok(result.requestId);
});

for (const [quantity, written] of [
  ['12345678901234567890.123456789012', '12345678901234567890.123456789012'],
  [0.1, '0.1'], [1e-7, '0.0000001'], ['2.50', '2.5'], ['1E+3', '1000'], ['12.5e-3', '0.0125'],
  [10n ** 37n, `1${'0'.repeat(37)}`], [0, '0'], [-0, '0'], ['007', '7'], [Number.MAX_SAFE_INTEGER, '9007199254740991'],
]) {
  test(`quantity ${quantity} is written ${written}`, async (t) => {
    const { server, make } = await setUp(t);
    await make().track({ metric: 'm', quantity });
    assert.ok(server.requests[0].body.toString().includes(`"quantity":${written},`));
  });
}

for (const fields of [
  { quantity: -1 }, { quantity: NaN }, { quantity: Infinity }, { quantity: '1e999' },
  { quantity: '1e-13' }, { quantity: 10n ** 38n }, { quantity: true }, { quantity: 'many' },
  { quantity: 2 ** 53 + 2 }, { quantity: '' }, { ts: '2026-01-01' }, { ts: '2026-01-01T00:00:00' },
  { ts: '2026-01-01T00:00:00.1234567Z' }, { ts: 'yesterday' }, { ts: new Date(NaN) },
  { customerRef: '' }, { resourceId: 'x'.repeat(256) }, { idempotencyKey: '' }, { meta: [1] },
  { meta: { n: NaN } }, { meta: { f: () => 1 } }, { meta: { lone: '\ud800' } },
  { meta: { huge: 'x'.repeat(1_000_000) } }, { quantitty: 5 }, { tenantId: 'globex' },
]) {
  test(`an event with ${Object.keys(fields)} ${String(Object.values(fields)[0]).slice(0, 30)} is refused at once`, async (t) => {
    const { server, make } = await setUp(t);
    await assert.rejects(make().track({ metric: 'm', ...fields }), InvalidEventError);
    assert.throws(() => make().buffer({ metric: 'm', ...fields }), InvalidEventError);
    assert.equal(server.requests.length, 0);
  });
}

test('a call without customer needs a client with one', async (t) => {
  const { make } = await setUp(t);
  await assert.rejects(make({ customerId: undefined }).track({ metric: 'm' }), /customerRef/);
});

for (const fault of ['500', '503', '429:0', 'drop', 'html']) {
  test(`a passing failure (${fault}) is retried with the same bytes`, async (t) => {
    const { server, make } = await setUp(t);
    server.faults.push(fault, fault);
    assert.equal((await make().track({ metric: 'm', quantity: 7 })).accepted, 1);
    assert.equal(server.requests.length, 3);
    assert.equal(new Set(server.requests.map(({ body }) => body.toString())).size, 1);
    assert.equal(server.total, 7);
  });
}

for (const fault of ['drop_after_apply', '500_after_apply', 'short']) {
  test(`an event whose answer was lost (${fault}) counts once`, async (t) => {
    const { server, make } = await setUp(t);
    server.faults.push(fault);
    assert.equal((await make().track({ metric: 'm', quantity: 7 })).duplicates, 1);
    assert.equal(server.total, 7);
  });
}

test('retries end and the error carries the event to send again', async (t) => {
  const { server, make } = await setUp(t);
  server.faults.push(...Array(4).fill('500_after_apply'));
  const client = make({ retryAttempts: 3 });
  const error = await client.track({ metric: 'm', quantity: 7 }).catch((caught) => caught);
  assert.ok(error instanceof DeliveryFailedError);
  assert.deepEqual([error.statusCode, error.retryable, server.requests.length], [500, true, 4]);
  assert.equal((await client.trackBatch(error.events)).duplicates, 1);
  assert.equal(server.total, 7);
});

for (const fault of ['401', '400_page']) {
  test(`a refusal that is not about an event (${fault}) is not retried`, async (t) => {
    const { server, make } = await setUp(t);
    server.faults.push(fault);
    const error = await make().track({ metric: 'm' }).catch((caught) => caught);
    assert.ok(error instanceof DeliveryFailedError);
    assert.deepEqual([error.statusCode, error.retryable], [Number(fault.slice(0, 3)), false]);
    assert.equal(server.requests.length, 1);
    if (fault === '401') assert.deepEqual([error.code, error.requestId], ['code_401', 'rid']);
  });
}

test('a server that asks for an hour ends the call and names the hour', async (t) => {
  const { server, make } = await setUp(t);
  server.faults.push('429:3600');
  const error = await make().track({ metric: 'm' }).catch((caught) => caught);
  assert.deepEqual([error.retryAfter, server.requests.length], [3600, 1]);
});

test('Retry-After is waited for', async (t) => {
  const { server, make } = await setUp(t);
  server.faults.push('429:1');
  await make().track({ metric: 'm' });
  assert.ok(server.requests[1].at - server.requests[0].at >= 1000);
});

test('a batch is split at a thousand events', async (t) => {
  const { server, make } = await setUp(t);
  const events = Array.from({ length: 2500 }, () => ({ metric: 'm', quantity: 2 }));
  const result = await make().trackBatch(events);
  assert.deepEqual(server.requests.map(({ events }) => events.length), [1000, 1000, 500]);
  assert.deepEqual([result.accepted, server.total], [2500, 5000]);
  assert.deepEqual(result.results.map(({ index }) => index), [...events.keys()]);
});

test('a batch is split at a mebibyte', async (t) => {
  const { server, make } = await setUp(t);
  const events = Array(8).fill({ metric: 'm', meta: { text: 'é'.repeat(150_000) } });
  assert.equal((await make().trackBatch(events)).accepted, 8);
  const sizes = server.requests.map(({ body }) => body.length);
  assert.ok(sizes.length > 1 && Math.max(...sizes) <= 1_048_576);
});

test('a batch that is too large for the server is halved', async (t) => {
  const { server, make } = await setUp(t);
  server.bodyBytesMax = 1000;
  assert.equal((await make().trackBatch(Array(10).fill({ metric: 'm' }))).accepted, 10);
  assert.equal(server.total, 10);
});

test('bad events are named by the server and the others get through', async (t) => {
  const { server, make, reported } = await setUp(t);
  server.refuseMetric = 'bad';
  const names = ['good', 'bad', 'good', 'bad', 'good'];
  const result = await make().trackBatch(names.map((metric) => ({ metric })));
  assert.deepEqual(
    result.results.map(({ status }) => status),
    ['accepted', 'error', 'accepted', 'error', 'accepted'],
  );
  assert.deepEqual([result.ok, result.errors[0].error, result.errors[0].code], [false, 'not this one', 'refused']);
  assert.equal(server.requests.length, 2);
  assert.deepEqual(reported.map(({ error }) => [error.constructor, error.statusCode]), [
    [EventRejectedError, 400], [EventRejectedError, 400],
  ]);
});

test('a bad event nobody names is found by halving', async (t) => {
  const { server, make } = await setUp(t);
  server.refuseMetric = 'bad';
  server.namesRefused = false;
  const events = Array.from({ length: 100 }, (_, i) => ({ metric: i === 41 ? 'bad' : 'good' }));
  const result = await make().trackBatch(events);
  assert.deepEqual(result.errors.map(({ index }) => index), [41]);
  assert.equal(result.accepted, 99);
  assert.ok(server.requests.length < 20);
});

test('a single refused event is thrown', async (t) => {
  const { server, make } = await setUp(t);
  server.refuseMetric = 'bad';
  await assert.rejects(make().track({ metric: 'bad' }), EventRejectedError);
});

test('a conflict is in the result and reported', async (t) => {
  const { server, make, reported } = await setUp(t);
  const client = make();
  await client.track({ metric: 'm', quantity: 1, idempotencyKey: 'k' });
  const result = await client.track({ metric: 'm', quantity: 2, idempotencyKey: 'k' });
  assert.deepEqual([result.conflicts, result.ok, server.total], [1, false, 1]);
  assert.ok(reported[0].error instanceof EventConflictError);
});

test('time is taken once, with microseconds', async (t) => {
  const { server, make } = await setUp(t);
  const before = Date.now();
  await make().trackBatch(Array(50).fill({ metric: 'm' }));
  const stamps = server.requests[0].events.map(({ ts }) => ts);
  stamps.forEach((ts) => assert.match(ts, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/));
  stamps.forEach((ts) => assert.ok(Math.abs(Date.parse(ts) - before) < 60_000));
});

test('usage, projection and both forms of history are read', async (t) => {
  const { server, make } = await setUp(t);
  const client = make();
  const exact = make({ decimals: 'string' });
  assert.equal((await client.getUsage()).metrics[0].current, 7);
  assert.equal((await exact.getUsage()).metrics[0].current, '12345678901234567890.5');
  assert.equal((await exact.getProjection()).total, '2.5');
  assert.equal((await client.getProjection('c2', '2026-11-01', '2026-11-30')).customerRef, 'c2');
  const window = { periodStart: new Date(0), periodEnd: '2026-11-30T00:00:00Z' };
  assert.equal((await client.getHistory({ metric: 'm', ...window })).points[0].value, 3);
  assert.equal((await client.getHistory({ metric: 'm', since: '-P1D' })).points.length, 1);
  assert.equal(server.requests[0].path, '/v1/usage/current?tenantId=acme&customerRef=c1');
  assert.equal(server.requests[2].path, '/v1/usage/projection?decimals=string');
  await assert.rejects(client.getProjection('c2', '2026-11-01'), InvalidEventError);
  await assert.rejects(client.getHistory({ metric: 'm' }), InvalidEventError);
  await assert.rejects(client.getHistory({ metric: 'm', since: 'a', ...window }), InvalidEventError);
});

test('a closed client says so', async (t) => {
  const { make } = await setUp(t);
  const client = make();
  await client.close();
  await client.close();
  await assert.rejects(client.track({ metric: 'm' }), ClientClosedError);
  assert.throws(() => client.buffer({ metric: 'm' }), ClientClosedError);
});

test('options that make no sense are refused', () => {
  const good = { apiUrl: 'http://127.0.0.1:1', tenantId: 'acme' };
  for (const bad of [
    { apiUrl: 'example.test' }, { tenantId: '' }, { timeout: 0 }, { retryAttempts: -1 },
    { batchSize: 1001 }, { batchSize: 0 }, { batchSize: 100, maxBuffered: 99 },
  ]) {
    assert.throws(() => createClient({ ...good, ...bad }));
  }
});
