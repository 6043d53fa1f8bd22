// The package: two module formats, types, no dependency, and nothing but the build in it.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';

import * as esm from '@stripemeter/sdk-node';

import { ROOT } from '../test-support/setup.mjs';

const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

test('ES modules and CommonJS export the same names', () => {
  const cjs = createRequire(import.meta.url)('@stripemeter/sdk-node');
  assert.deepEqual(Object.keys(cjs).sort(), Object.keys(esm).sort());
  assert.equal(esm.StripemeterClient, esm.StripeMeterClient);
  assert.equal(esm.StripemeterError, esm.StripeMeterError);
  assert.equal(esm.VERSION, manifest.version);
});

test('there is no runtime dependency, and the lock file names no registry', () => {
  assert.equal(manifest.dependencies, undefined);
  assert.doesNotMatch(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'), /resolved|https?:/);
});

test('the packed package holds the build and nothing else', () => {
  const packed = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'],
  });
  const names = JSON.parse(packed)[0].files.map(({ path }) => path);
  assert.ok(names.includes('dist/esm/index.js') && names.includes('dist/cjs/index.d.ts'));
  const others = names.filter((name) => !name.startsWith('dist/'));
  assert.deepEqual(others.sort(), ['README.md', 'package.json']);
});

test('the types say what the options and answers are', (t) => {
  const folder = mkdtempSync(join(ROOT, 'types-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'use.ts'), `
    import { createClient, type IngestResult } from '@stripemeter/sdk-node';
    const client = createClient({ apiUrl: 'http://localhost', tenantId: 'acme' });
    const exact = createClient({ apiUrl: 'http://localhost', tenantId: 'acme', decimals: 'string' });
    export const sent: Promise<IngestResult> = client.track({ metric: 'm', quantity: '0.1' });
    export const some: Promise<number | undefined> =
      client.getUsage('c').then(({ metrics }) => metrics[0]?.current);
    export const text: Promise<string | undefined> =
      exact.getUsage('c').then(({ metrics }) => metrics[0]?.current);
    // @ts-expect-error metric is required
    void client.track({ quantity: 1 });
    // @ts-expect-error there is no such option
    createClient({ apiUrl: '', tenantId: '', colour: 'red' });
  `);
  const compilerOptions = {
    strict: true, noEmit: true, module: 'nodenext', target: 'es2022', lib: ['es2022'], types: [],
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions }));
  const tsc = join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc');
  const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' });
  assert.deepEqual([status, stdout], [0, '']);
});
