// A small server that keeps the ingest contract, with scripted faults, so that the tests decide what
// goes wrong and when. Faults are consumed one per request, in order:
//   drop | drop_after_apply   close the connection without an answer, before or after storing
//   500_after_apply           store, then answer 500
//   500 | 503 | 401           answer so and store nothing
//   429:<seconds>             answer 429 with Retry-After
//   html | 400_page           a page, with 200 or 400
//   short                     one result too few

import { createServer } from 'node:http';

export class ContractServer {
  ledger = new Map();
  faults = [];
  requests = [];
  refuseMetric = undefined;
  namesRefused = true;
  bodyBytesMax = 1_048_576;
  #waiters = [];
  #server = createServer((request, response) => void this.#handle(request, response));

  async start() {
    await new Promise((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return this;
  }

  get url() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  async stop() {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  get total() {
    return [...this.ledger.values()].reduce((sum, event) => sum + event.quantity, 0);
  }

  /** Resolves when `condition()` holds; it is looked at after every request. */
  async waitFor(condition) {
    while (!condition()) await new Promise((resolve) => this.#waiters.push(resolve));
  }

  async #handle(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const fault = this.faults.shift() ?? '';
    const noted = { path: request.url, headers: request.headers, body, at: performance.now() };
    const isIngest = request.url === '/v1/events/ingest';
    const events = isIngest ? JSON.parse(body.toString()).events : undefined;
    let answer = [200, isIngest ? {} : read(request, body)];
    if (isIngest && (body.length > this.bodyBytesMax || events.length > 1000)) {
      answer = [413, { code: 'too_large', detail: 'too large' }];
    } else if (isIngest && ['', 'drop_after_apply', '500_after_apply', 'short'].includes(fault)) {
      answer = this.#ingest(events);
    }
    this.requests.push({ ...noted, events });
    this.#waiters.splice(0).forEach((wake) => wake());
    if (fault.startsWith('drop')) request.socket.destroy();
    else reply(response, fault, answer);
  }

  #ingest(events) {
    const errors = events.flatMap((event, index) =>
      event.metric === this.refuseMetric ? [{ index, code: 'refused', detail: 'not this one' }] : [],
    );
    if (errors.length > 0) {
      return [400, { code: 'invalid', detail: 'bad', errors: this.namesRefused ? errors : [] }];
    }
    const results = events.map((event) => this.#apply(event));
    const count = (status) => results.filter((row) => row.status === status).length;
    const counts = {
      accepted: count('accepted'), duplicates: count('duplicate'), conflicts: count('conflict'),
    };
    return [200, { ...counts, requestId: `req-${this.requests.length}`, results }];
  }

  #apply(event) {
    const place = `${event.tenantId} ${event.idempotencyKey}`;
    const known = this.ledger.get(place);
    if (known === undefined) this.ledger.set(place, event);
    const again = JSON.stringify(known) === JSON.stringify(event) ? 'duplicate' : 'conflict';
    const status = known === undefined ? 'accepted' : again;
    return { idempotencyKey: event.idempotencyKey, status };
  }
}

function reply(response, fault, [status, data]) {
  const [name, seconds] = fault.split(':');
  const send = (code, body, headers = {}) => response.writeHead(code, headers).end(body);
  const json = (code, value, headers) => send(code, JSON.stringify(value), headers);
  if (name === 'html' || name === '400_page') send(name === 'html' ? 200 : 400, '<html></html>');
  else if (name === '429') json(429, { code: 'rate_limited' }, { 'retry-after': seconds });
  else if (['500', '503', '401'].includes(name)) {
    json(Number(name), { code: `code_${name}`, detail: 'no', requestId: 'rid' });
  } else if (name === '500_after_apply') json(500, { code: 'internal' });
  else if (name === 'short') json(200, { ...data, results: data.results.slice(1) });
  else json(status, data);
}

function read(request, body) {
  const url = new URL(request.url, 'http://localhost');
  const exact = url.searchParams.get('decimals') === 'string';
  const number = (value) => (exact ? String(value) : value);
  if (url.pathname === '/v1/usage/projection') {
    const { customerRef, periodStart = '2026-11-01' } = JSON.parse(body.toString());
    return { customerRef, periodStart, lineItems: [], total: number(2.5), currency: 'USD' };
  }
  if (url.pathname === '/v1/usage/history') {
    const points = [{ ts: '2026-11-01T00:00:00Z', value: number(3) }];
    return url.searchParams.has('since') ? { series: points } : { usage: points };
  }
  return {
    customerRef: url.searchParams.get('customerRef'),
    period: { start: '2026-11-01', end: '2026-11-30' },
    metrics: [{ name: 'api_calls', current: exact ? '12345678901234567890.5' : 7, unit: 'unit' }],
    alerts: [],
  };
}
