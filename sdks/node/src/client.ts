import { writeSync } from 'node:fs';

import { Outcome, REQUEST_EVENTS_MAX, deliver } from './delivery.js';
import {
  BufferFullError,
  ClientClosedError,
  DeliveryFailedError,
  EventRejectedError,
  InvalidEventError,
  StripeMeterError,
  messageOf,
} from './errors.js';
import { prepare } from './events.js';
import type { EventInput, PreparedEvent } from './events.js';
import { forget, remember } from './exit.js';
import type { Leaver } from './exit.js';
import { DEFAULT_POLICY, Transport, readObject } from './http.js';
import type { Fetch, Pause, Request, RetryPolicy } from './http.js';
import { EventQueue } from './queue.js';
import { defined, historyParams } from './reads.js';
import type {
  HistoryPoint,
  HistoryQuery,
  ProjectionResponse,
  UsageHistory,
  UsageResponse,
} from './reads.js';
import { merge } from './results.js';
import type { IngestResult } from './results.js';
import { Spool } from './spool.js';
import { Signal, monotonicMs, pauseUnless, pauseUntil } from './waiting.js';

const KEEP_ALIVE_MS = 60_000;
export const VERSION = '1.0.0';

export interface ClientOptions {
  apiUrl: string;
  tenantId: string;
  /** The customer of calls that name none. */
  customerId?: string;
  apiKey?: string;
  /** Milliseconds for one request; 10,000. */
  timeout?: number;
  /** Tries after the first one; 3. */
  retryAttempts?: number;
  /** The buffer is sent when so many events wait (1 to 1,000); 100. */
  batchSize?: number;
  /** Milliseconds the oldest buffered event waits at most; 5,000. */
  flushInterval?: number;
  /** Undelivered events held at most; then `buffer` throws and drops nothing. 10,000. */
  maxBuffered?: number;
  /** Hears of every event that did not get through. Without it: a process warning. */
  onError?: (error: StripeMeterError, events: readonly PreparedEvent[]) => void;
  /** Keep buffered events in this directory, so that a crash of the caller loses none. */
  spoolDir?: string;
  /** fsync each buffered event (survives a power cut, not only a crash); true. */
  spoolFsync?: boolean;
  /** Milliseconds `close` and the end of the process try to deliver; 10,000. */
  closeTimeout?: number;
  /** How numbers of reads arrive; strings keep every digit. 'number'. */
  decimals?: 'number' | 'string';
  retryPolicy?: Partial<Omit<RetryPolicy, 'attempts'>>;
  /** Another fetch, for proxies and tests. */
  fetch?: Fetch;
}

/** Sends usage events and reads usage. `N` is the type of numbers in reads (`decimals`). */
export class StripeMeterClient<N extends number | string = number> {
  readonly apiUrl: string;
  readonly tenantId: string;
  readonly customerId: string | undefined;
  readonly #transport: Transport;
  readonly #policy: RetryPolicy;
  readonly #queue: EventQueue;
  readonly #spool: Spool | undefined;
  readonly #onError: ClientOptions['onError'];
  readonly #closeTimeout: number;
  readonly #maxBuffered: number;
  readonly #exact: boolean;
  readonly #interrupt = new Signal();
  readonly #shut = new Signal();
  readonly #room = new Signal();
  #sending: Promise<unknown> = Promise.resolve();
  readonly #leaver: Leaver = {
    flushAtExit: async () => {
      this.#interrupt.set();
      await this.#drain(Date.now() + this.#closeTimeout).catch(() => undefined);
    },
    sayGoodbye: () => this.#sayGoodbye(),
  };
  #timer: NodeJS.Timeout | undefined;
  #timerDue = 0;
  #isPumping = false;
  #isClosing = false;

  constructor(options: ClientOptions) {
    const chosen = checked(options);
    this.apiUrl = chosen.apiUrl.replace(/\/+$/, '');
    this.tenantId = chosen.tenantId;
    this.customerId = chosen.customerId;
    const headers: Record<string, string> = {
      accept: 'application/json',
      'user-agent': `stripemeter-node/${VERSION}`,
    };
    if (chosen.apiKey !== undefined) headers['authorization'] = `Bearer ${chosen.apiKey}`;
    const fetcher: Fetch = chosen.fetch ?? ((...call) => globalThis.fetch(...call));
    this.#transport = new Transport(this.apiUrl, headers, chosen.timeout, fetcher);
    this.#policy = { ...DEFAULT_POLICY, ...chosen.retryPolicy, attempts: chosen.retryAttempts };
    this.#queue = new EventQueue(chosen.batchSize, chosen.flushInterval, chosen.maxBuffered);
    this.#maxBuffered = chosen.maxBuffered;
    this.#onError = chosen.onError;
    this.#closeTimeout = chosen.closeTimeout;
    this.#exact = chosen.decimals === 'string';
    if (chosen.spoolDir !== undefined) {
      this.#spool = new Spool(chosen.spoolDir, chosen.spoolFsync);
      const due = monotonicMs() - chosen.flushInterval;
      for (const event of this.#spool.adopt()) this.#enqueue(event, due);
    }
  }

  /** Events in the buffer, including those on their way, that have no verdict yet. */
  get pending(): number {
    return this.#queue.size;
  }

  /**
   * Sends one event now; resolves once it is durably in the ledger. Rejects with
   * EventRejectedError when the server refuses it, with DeliveryFailedError (holding the event, to
   * send again) when its fate is unknown.
   */
  async track(event: EventInput | PreparedEvent): Promise<IngestResult> {
    const outcome = await this.#deliverNow([this.#prepare(event)]);
    const refused = outcome.problems.find(({ error }) => error instanceof EventRejectedError);
    if (refused !== undefined) throw refused.error;
    return outcome.result;
  }

  /**
   * Sends many events now, in requests of at most 1,000 events and 1 MiB. Refused events are in
   * `result.errors`; rejects with DeliveryFailedError when some have no verdict.
   */
  async trackBatch(events: Iterable<EventInput | PreparedEvent>): Promise<IngestResult> {
    const prepared = [...events].map((event) => this.#prepare(event));
    return (await this.#deliverNow(prepared)).result;
  }

  /**
   * Takes one event for the background flush and returns its idempotency key. With a spool it is on
   * disk then. Throws BufferFullError when `maxBuffered` events are undelivered.
   */
  buffer(event: EventInput | PreparedEvent): string {
    const prepared = this.#prepare(event);
    if (this.#queue.isFull) {
      throw new BufferFullError(
        `the buffer holds ${this.#maxBuffered} undelivered events; this one was not taken`,
        { retryable: true },
      );
    }
    this.#spool?.append(prepared);
    this.#enqueue(prepared, monotonicMs());
    return prepared.idempotencyKey;
  }

  /** Like `buffer`, but waits while the buffer is full. */
  async bufferWhenRoom(event: EventInput | PreparedEvent): Promise<string> {
    const prepared = this.#prepare(event);
    // The flush timer lets a process end; one whose caller waits here must not.
    const keepAlive = setInterval(() => undefined, KEEP_ALIVE_MS);
    try {
      while (this.#queue.isFull && !this.#isClosing) {
        this.#room.clear();
        await this.#room.wait();
      }
    } finally {
      clearInterval(keepAlive);
    }
    return this.buffer(prepared);
  }

  /** Sends what is in the buffer; null when it is empty. On failure the events stay in it. */
  async flush(): Promise<IngestResult | null> {
    const outcomes: Outcome[] = [];
    this.#interrupt.set(); // a background flush that is waiting to retry makes way
    await this.#alone(async () => {
      this.#interrupt.clear();
      for (let left = this.#queue.size; left > 0; ) {
        const outcome = await this.#deliverQueued(pauseUnless(this.#shut));
        if (outcome === undefined) break;
        outcomes.push(outcome);
        left = outcome.error === undefined ? left - outcome.events.length : 0;
      }
    });
    this.#schedule();
    outcomes.forEach((outcome) => this.#reportProblems(outcome));
    const last = outcomes.at(-1);
    if (last === undefined) return null;
    const result = merge(outcomes.map((outcome) => outcome.result));
    if (last.error === undefined) return result;
    throw new DeliveryFailedError(last.error.message, last.error, last.unsent, result);
  }

  /** The customer's exact usage in the current period. */
  async getUsage(customerRef?: string): Promise<UsageResponse<N>> {
    return this.#read<UsageResponse<N>>('GET', '/v1/usage/current', {
      tenantId: this.tenantId,
      customerRef: this.#customer(customerRef),
    });
  }

  /** What the period costs the customer. Days are `YYYY-MM-DD`, both or neither. */
  async getProjection(
    customerRef?: string,
    periodStart?: string,
    periodEnd?: string,
  ): Promise<ProjectionResponse<N>> {
    if ((periodStart === undefined) !== (periodEnd === undefined)) {
      throw new InvalidEventError('periodStart and periodEnd go together');
    }
    const customer = this.#customer(customerRef);
    const body = defined({
      tenantId: this.tenantId, customerRef: customer, periodStart, periodEnd,
    });
    return this.#read<ProjectionResponse<N>>('POST', '/v1/usage/projection', {}, body);
  }

  /** Usage over time, by periods or as a series (see HistoryQuery). */
  async getHistory(query: HistoryQuery): Promise<UsageHistory<N>> {
    const customerRef = query.customerRef ?? this.customerId;
    const params = defined({ tenantId: this.tenantId, metric: query.metric, customerRef });
    const raw = await this.#read<Record<string, unknown>>('GET', '/v1/usage/history', {
      ...params,
      ...historyParams(query),
    });
    const rows = raw['series'] ?? raw['usage'];
    return { points: (Array.isArray(rows) ? rows : []) as HistoryPoint<N>[], raw };
  }

  /**
   * Delivers the buffer, for at most `timeout` milliseconds, and lets go of everything. Rejects with
   * DeliveryFailedError holding what is left; with a spool that stays on disk instead, for the
   * next start. A second call does nothing.
   */
  async close(timeout = this.#closeTimeout): Promise<void> {
    if (this.#isClosing) return;
    this.#isClosing = true;
    clearTimeout(this.#timer);
    for (const signal of [this.#interrupt, this.#shut, this.#room]) signal.set();
    const deadline = Date.now() + timeout;
    await this.#drain(deadline);
    forget(this.#leaver);
    const left = this.#queue.everything();
    this.#spool?.close();
    if (left.length === 0 || this.#spool !== undefined) return;
    throw new DeliveryFailedError(
      `closed with ${left.length} undelivered events`, { retryable: true }, left,
    );
  }

  #prepare(event: EventInput | PreparedEvent): PreparedEvent {
    if (this.#isClosing) throw new ClientClosedError('the client is closed');
    return prepare(this.tenantId, this.customerId, event);
  }

  #customer(customerRef: string | undefined): string {
    const chosen = customerRef ?? this.customerId;
    if (chosen !== undefined) return chosen;
    throw new InvalidEventError('customerRef is missing and the client has no customerId');
  }

  async #read<T>(
    method: Request['method'],
    path: string,
    params: Record<string, string>,
    body?: Record<string, string>,
  ): Promise<T> {
    const query = new URLSearchParams({ ...params, ...(this.#exact ? { decimals: 'string' } : {}) });
    const address = `${path}?${query.toString()}`.replace(/\?$/, '');
    const request = { method, path: address, ...(body ? { body: JSON.stringify(body) } : {}) };
    const pause = pauseUnless(this.#shut);
    return this.#transport.attempt(
      request, this.#policy, pause, (reply) => readObject(reply) as T,
    );
  }

  async #deliverNow(events: PreparedEvent[]): Promise<Outcome> {
    const outcome = new Outcome(events);
    await deliver(outcome, this.#transport, this.#policy, pauseUnless(this.#shut));
    this.#reportProblems(outcome);
    if (outcome.failure !== undefined) throw outcome.failure;
    return outcome;
  }

  #enqueue(event: PreparedEvent, since: number): void {
    this.#queue.put(event, since);
    remember(this.#leaver);
    this.#schedule();
  }

  /** Sets the timer of the background flush; the process may end while it runs (see exit.ts). */
  #schedule(): void {
    const wait = this.#queue.waitMs(monotonicMs());
    if (wait === undefined || this.#isClosing || this.#isPumping) return;
    const due = monotonicMs() + wait;
    if (this.#timer !== undefined && this.#timerDue <= due) return;
    clearTimeout(this.#timer);
    this.#timerDue = due;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#pump();
    }, wait).unref();
  }

  /** The background flush. Whatever happens in it, nothing is thrown: the host process lives on. */
  async #pump(): Promise<void> {
    if (this.#isPumping || this.#isClosing) return;
    this.#isPumping = true;
    try {
      for (let wait = this.#wait(); wait === 0 && !this.#isClosing; wait = this.#wait()) {
        const outcome = await this.#alone(() => this.#deliverQueued(pauseUnless(this.#interrupt)));
        if (outcome === undefined) continue;
        this.#reportProblems(outcome);
        const failure = outcome.failure;
        if (failure === undefined) continue;
        this.#queue.hold(monotonicMs(), this.#policy, failure.retryAfter);
        this.#report(failure, failure.events);
      }
    } catch (error) {
      this.#queue.hold(monotonicMs(), this.#policy, undefined);
      this.#report(new StripeMeterError(messageOf(error)), []);
    } finally {
      this.#isPumping = false;
      this.#schedule();
    }
  }

  #wait(): number | undefined {
    return this.#queue.waitMs(monotonicMs());
  }

  /** Runs one sender of the buffer at a time. */
  async #alone<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#sending.then(work);
    this.#sending = turn.catch(() => undefined);
    return turn;
  }

  async #deliverQueued(pause: Pause, deadline?: number): Promise<Outcome | undefined> {
    const batch = this.#queue.take();
    if (batch.length === 0) return undefined;
    const outcome = new Outcome(batch);
    try {
      await deliver(outcome, this.#transport, this.#policy, pause, deadline);
    } finally {
      this.#conclude(outcome);
    }
    return outcome;
  }

  async #drain(deadline: number): Promise<void> {
    const pause = pauseUntil(deadline);
    await this.#alone(async () => {
      for (;;) {
        const outcome = await this.#deliverQueued(pause, deadline);
        if (outcome === undefined) return;
        this.#reportProblems(outcome);
        const failure = outcome.failure;
        if (failure === undefined) continue;
        if (!failure.retryable || Date.now() >= deadline) return;
        await pause((failure.retryAfter ?? 0) * 1000 + this.#policy.pauseBaseMs);
      }
    });
  }

  /** Writes down the fates of events that came from the buffer: in the spool, in the queue. */
  #conclude(outcome: Outcome): void {
    const settled = outcome.settled;
    try {
      for (const { error, event } of outcome.problems) {
        if (error instanceof EventRejectedError) this.#spool?.reject(event, error.message);
      }
      this.#spool?.settle(settled);
    } catch (error) {
      // The events are delivered; at worst a later start sends duplicates.
      process.emitWarning(`the spool took no note: ${messageOf(error)}`, 'StripeMeterWarning');
    }
    this.#queue.settle(settled);
    this.#queue.putBack(outcome.unsent, monotonicMs());
    if (!this.#queue.isFull) this.#room.set();
    if (this.#queue.size === 0) forget(this.#leaver);
  }

  #sayGoodbye(): void {
    const left = this.#queue.everything();
    if (left.length === 0 || this.#spool !== undefined) return;
    const message = `the process ended with ${left.length} undelivered events`;
    // A warning would be printed on a later tick, and there is none any more.
    if (this.#onError === undefined) writeSync(2, `StripeMeter: ${message}\n`);
    else this.#report(new DeliveryFailedError(message, { retryable: true }, left), left);
  }

  #reportProblems(outcome: Outcome): void {
    for (const { error, event } of outcome.problems) this.#report(error, [event]);
  }

  #report(error: StripeMeterError, events: readonly PreparedEvent[]): void {
    if (this.#onError === undefined) {
      process.emitWarning(`${error.message} (${events.length} events)`, 'StripeMeterWarning');
      return;
    }
    try {
      this.#onError(error, events);
    } catch (raised) {
      process.emitWarning(`onError threw: ${messageOf(raised)}`, 'StripeMeterWarning');
    }
  }
}

/** Makes a client; `decimals: 'string'` makes reads return every digit. */
export function createClient(
  options: ClientOptions & { decimals: 'string' },
): StripeMeterClient<string>;
export function createClient(options: ClientOptions): StripeMeterClient<number>;
export function createClient(options: ClientOptions): StripeMeterClient<number | string> {
  return new StripeMeterClient<number | string>(options);
}

function checked(options: ClientOptions) {
  const chosen = {
    ...options,
    timeout: options.timeout ?? 10_000,
    retryAttempts: options.retryAttempts ?? 3,
    batchSize: options.batchSize ?? 100,
    flushInterval: options.flushInterval ?? 5_000,
    maxBuffered: options.maxBuffered ?? 10_000,
    closeTimeout: options.closeTimeout ?? 10_000,
    spoolFsync: options.spoolFsync ?? true,
  };
  if (!/^https?:\/\/[^/]/.test(chosen.apiUrl)) {
    throw new TypeError('apiUrl must be an http or https address');
  }
  if (!chosen.tenantId) throw new TypeError('tenantId must be a non-empty string');
  if (!(chosen.timeout > 0) || !(chosen.retryAttempts >= 0) || !(chosen.flushInterval >= 0)) {
    throw new RangeError('timeout must be positive, retryAttempts and flushInterval not negative');
  }
  const { batchSize, maxBuffered } = chosen;
  if (!(batchSize >= 1 && batchSize <= REQUEST_EVENTS_MAX && batchSize <= maxBuffered)) {
    throw new RangeError('1 <= batchSize <= 1000 and batchSize <= maxBuffered must hold');
  }
  return chosen;
}
