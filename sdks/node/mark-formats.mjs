// Says of each build which module format it is, so that Node reads both from one package.
import { writeFileSync } from 'node:fs';

for (const [folder, type] of [['esm', 'module'], ['cjs', 'commonjs']]) {
  writeFileSync(new URL(`dist/${folder}/package.json`, import.meta.url), `{"type":"${type}"}\n`);
}
