// A Node service that meters itself: one event for each request, one for each report it makes.
//
//     node server.mjs 8003
//
// STRIPEMETER_URL, STRIPEMETER_TENANT and STRIPEMETER_API_KEY say where the usage goes.

import { createServer } from 'node:http';

import { createClient } from '@stripemeter/sdk-node';

const { STRIPEMETER_URL, STRIPEMETER_TENANT, STRIPEMETER_API_KEY, STRIPEMETER_SPOOL } = process.env;
const meter = createClient({
  apiUrl: STRIPEMETER_URL,
  tenantId: STRIPEMETER_TENANT,
  closeTimeout: 30_000,
  ...(STRIPEMETER_API_KEY ? { apiKey: STRIPEMETER_API_KEY } : {}),
  ...(STRIPEMETER_SPOOL ? { spoolDir: STRIPEMETER_SPOOL } : {}),
});

const server = createServer((request, response) => {
  answer(request)
    .then((body) => response.end(JSON.stringify(body)))
    .catch((error) => response.writeHead(500).end(JSON.stringify({ error: error.message })));
});

async function answer(request) {
  const customerRef = request.headers['x-customer'];
  if (customerRef) {
    meter.buffer({ metric: 'api_calls', customerRef, meta: { path: request.url } });
  }
  const [, report] = /^\/reports\/(.+)$/.exec(request.url) ?? [];
  return report ? makeReport(report, customerRef) : { hello: 'world' };
}

/** A report counts once, however often the request is repeated: its id is the key. */
async function makeReport(report, customerRef) {
  const result = await meter.track({
    metric: 'report_pages', customerRef, quantity: 12,
    ts: '2026-11-01T00:00:00Z', idempotencyKey: `report-${report}`,
  });
  return { report, status: result.results[0].status };
}

server.listen(Number(process.argv[2]), '127.0.0.1');

// Stop taking requests, then send what is in the buffer.
process.once('SIGTERM', () => {
  server.close(() => void meter.close().finally(() => process.exit()));
  server.closeIdleConnections();
});
