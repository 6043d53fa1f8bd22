import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { createClient } from '@stripemeter/sdk-node';

import { ContractServer } from './contract-server.mjs';

// Retries without pauses: the tests are about what is sent again, not about how long it takes.
export const EAGER = { pauseBaseMs: 1, pauseMaxMs: 2 };
export const PATIENT = { pauseBaseMs: 3_600_000, pauseMaxMs: 3_600_000 };
export const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** A running contract server and a maker of clients; both end with the test. */
export async function setUp(t) {
  const server = await new ContractServer().start();
  const reported = [];
  const made = [];
  const make = (options = {}) => {
    const client = createClient({
      apiUrl: server.url,
      tenantId: 'acme',
      customerId: 'c1',
      apiKey: 'sm_test_key',
      flushInterval: 3_600_000,
      retryPolicy: EAGER,
      onError: (error, events) => reported.push({ error, events }),
      ...options,
    });
    made.push(client);
    return client;
  };
  t.after(async () => {
    server.faults.length = 0;
    for (const client of made) await client.close();
    await server.stop();
  });
  return { server, make, reported };
}

export function temporaryFolder(t) {
  const folder = mkdtempSync(join(tmpdir(), 'stripemeter-spool-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Runs a module in a process of its own; resolves when it ends, however it ends. */
export function runNode(code, ...given) {
  const flags = ['--input-type=module', '-e', code, ...given];
  return new Promise((resolve) => {
    execFile(process.execPath, flags, { cwd: ROOT, timeout: 60_000 }, (error, stdout, stderr) => {
      resolve({ code: error?.code ?? 0, signal: error?.signal ?? null, stdout, stderr });
    });
  });
}
