// Buffers many events against a real server and prints what became of them. The server may be killed
// and started again meanwhile: drive.mjs <apiUrl> <tenantId> <customerId> <events> <spoolDir or ->
// The API key comes from STRIPEMETER_API_KEY.

import { createClient } from '@stripemeter/sdk-node';

const [, , apiUrl, tenantId, customerId, events, spoolDir] = process.argv;
const reported = {};
const client = createClient({
  apiUrl,
  tenantId,
  customerId,
  apiKey: process.env.STRIPEMETER_API_KEY,
  timeout: 10_000,
  batchSize: 50,
  maxBuffered: 400,
  flushInterval: 100,
  retryPolicy: { pauseBaseMs: 50, pauseMaxMs: 500 },
  ...(spoolDir === '-' ? {} : { spoolDir }),
  onError: (error) => {
    reported[error.name] = (reported[error.name] ?? 0) + 1;
  },
});
for (let place = 1; place <= Number(events); place += 1) {
  await client.bufferWhenRoom({ metric: 'kill', quantity: `${Math.floor(place / 1000)}.${String(place % 1000).padStart(3, '0')}` });
}
await client.close(120_000);
console.log(JSON.stringify({ pending: client.pending, reported }));
