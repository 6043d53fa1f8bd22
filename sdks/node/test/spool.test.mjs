// The disk spool: a crash of the caller loses nothing and doubles nothing.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { runNode, setUp, temporaryFolder } from '../test-support/setup.mjs';
import { prepare } from '../dist/esm/events.js';
import { Spool } from '../dist/esm/spool.js';

const CRASHING = `
  import { createClient } from '@stripemeter/sdk-node';
  const [, apiUrl, spoolDir, count, extra] = process.argv;
  const client = createClient({ apiUrl, tenantId: 'acme', customerId: 'c1', spoolDir,
    batchSize: 1000, flushInterval: 3600000 });
  for (let quantity = 0; quantity < Number(count); quantity += 1) {
    console.log(client.buffer({ metric: 'm', quantity }));
  }
  if (extra) {
    await client.flush();
    client.buffer({ metric: 'm', quantity: 1000 });
  }
  process.kill(process.pid, 'SIGKILL');
`;

async function crash(server, folder, count, ...extra) {
  const done = await runNode(CRASHING, server.url, folder, String(count), ...extra);
  assert.equal(done.signal, 'SIGKILL', done.stderr);
  return done.stdout.trim().split('\n');
}

const event = (metric) => prepare('acme', 'c1', { metric });
const logs = (folder) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.log'))
    .map((name) => join(folder, name));

test('events of a killed caller are sent at the next start with their keys', async (t) => {
  const { server, make } = await setUp(t);
  const folder = temporaryFolder(t);
  const keys = await crash(server, folder, 20);
  assert.equal(server.requests.length, 0);
  await make({ spoolDir: folder }).close();
  assert.deepEqual(server.requests[0].events.map(({ idempotencyKey }) => idempotencyKey), keys);
  assert.equal(server.total, 190);
  assert.deepEqual(readdirSync(folder), []);
});

test('events with a verdict are not sent again after a crash', async (t) => {
  const { server, make } = await setUp(t);
  const folder = temporaryFolder(t);
  await crash(server, folder, 5, 'flush');
  await make({ spoolDir: folder }).close();
  assert.deepEqual(server.requests.map(({ events }) => events.length), [5, 1]);
  assert.equal(server.total, 1010);
});

test('a next start that crashes too hands on what it took over', async (t) => {
  const { server, make } = await setUp(t);
  const folder = temporaryFolder(t);
  await crash(server, folder, 3);
  await crash(server, folder, 4);
  await make({ spoolDir: folder }).close();
  assert.equal(server.ledger.size, 7);
});

test('the spool of a living client is left alone', async (t) => {
  const { server, make } = await setUp(t);
  const folder = temporaryFolder(t);
  const living = make({ spoolDir: folder });
  living.buffer({ metric: 'm' });
  const other = make({ spoolDir: folder });
  assert.deepEqual([living.pending, other.pending], [1, 0]);
  await other.close();
  await living.close();
  assert.equal(server.total, 1);
});

test('close leaves on disk what it could not deliver', async (t) => {
  const { server, make } = await setUp(t);
  const folder = temporaryFolder(t);
  const client = make({ spoolDir: folder });
  client.buffer({ metric: 'm', quantity: 9 });
  server.faults.push('401');
  await client.close();
  await make({ spoolDir: folder }).close();
  assert.equal(server.total, 9);
});

test('only events without a verdict are taken over', (t) => {
  const folder = temporaryFolder(t);
  const [first, second, third] = ['a', 'b', 'c'].map(event);
  const spool = new Spool(folder, true);
  [first, second, third].forEach((one) => spool.append(one));
  spool.settle([second]);
  spool.close();
  const next = new Spool(folder, true);
  assert.deepEqual(next.adopt(), [first, third]);
  next.close();
});

test('a torn or damaged line is skipped and the others are kept', (t) => {
  const folder = temporaryFolder(t);
  const kept = ['a', 'b', 'c', 'd'].map(event);
  const spool = new Spool(folder, true);
  kept.forEach((one) => spool.append(one));
  spool.close();
  const [log] = logs(folder);
  const text = readFileSync(log, 'utf8').replace('"metric":"b"', '"metric":"x"');
  writeFileSync(log, text.slice(0, -7));
  const next = new Spool(folder, true);
  assert.deepEqual(next.adopt(), [kept[0], kept[2]]);
  next.close();
});

test('a spool that is never idle still stays small', (t) => {
  const folder = temporaryFolder(t);
  const spool = new Spool(folder, false, 2000);
  let waiting = event('a');
  spool.append(waiting);
  for (let i = 0; i < 200; i += 1) {
    const fresh = event('a');
    spool.append(fresh);
    spool.settle([waiting]);
    waiting = fresh;
  }
  const size = logs(folder).reduce((sum, log) => sum + statSync(log).size, 0);
  assert.ok(size < 8000, String(size));
  spool.settle([waiting]);
  spool.close();
  assert.deepEqual(readdirSync(folder), []);
});

test('refused events are kept for a person', async (t) => {
  const { server, make } = await setUp(t);
  const folder = temporaryFolder(t);
  server.refuseMetric = 'bad';
  const client = make({ spoolDir: folder });
  client.buffer({ metric: 'bad' });
  await client.flush();
  await client.close();
  const text = readFileSync(join(folder, 'rejected.ndjson'), 'utf8');
  assert.match(text, /^\{"error":"not this one","event":\{.*"metric":"bad"/);
  await make({ spoolDir: folder }).close();
  assert.equal(server.requests.length, 1);
});
