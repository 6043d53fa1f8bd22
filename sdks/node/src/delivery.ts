// Delivery of events: split, send, read each event's fate, isolate what is refused.
//
// What must stay true: an event leaves with a verdict of the server, or stays in `unsent` with its
// key. A batch that is refused for some events is sent again without them, so one bad event never
// holds back the others, and no event is sent again once it has a verdict.

import {
  DeliveryFailedError,
  EventConflictError,
  EventRejectedError,
  StripeMeterError,
  isObject,
  textOf,
} from './errors.js';
import type { PreparedEvent } from './events.js';
import { readObject } from './http.js';
import type { Pause, Reply, RetryPolicy, Transport } from './http.js';
import { statusOf, summarise } from './results.js';
import type { EventResult, IngestResult, Status } from './results.js';

export const REQUEST_EVENTS_MAX = 1_000;
export const REQUEST_BYTES_MAX = 1_048_576;
const ENVELOPE_BYTES = '{"events":[]}'.length;

interface Placed {
  readonly place: number;
  readonly event: PreparedEvent;
}

interface Verdict {
  readonly status: Status;
  readonly error?: string;
  readonly code?: string;
}

/** Fates so far of the events of one call. */
export class Outcome {
  readonly verdicts: (EventResult | undefined)[];
  readonly requestIds: string[] = [];
  readonly statusCodes = new Map<number, number>();
  error: StripeMeterError | undefined;

  constructor(readonly events: readonly PreparedEvent[]) {
    this.verdicts = events.map(() => undefined);
  }

  settle({ place, event }: Placed, verdict: Verdict): void {
    this.verdicts[place] = { index: place, idempotencyKey: event.idempotencyKey, ...verdict };
  }

  get result(): IngestResult {
    const known = this.verdicts.filter((row): row is EventResult => row !== undefined);
    return summarise(known, this.requestIds);
  }

  get settled(): PreparedEvent[] {
    return this.events.filter((_, place) => this.verdicts[place] !== undefined);
  }

  get unsent(): PreparedEvent[] {
    return this.events.filter((_, place) => this.verdicts[place] === undefined);
  }

  /** One error for every event that was refused or is in conflict. */
  get problems(): { error: StripeMeterError; event: PreparedEvent }[] {
    return this.events.flatMap((event, place) => {
      const row = this.verdicts[place];
      if (row === undefined || (row.status !== 'error' && row.status !== 'conflict')) return [];
      const details = {
        statusCode: this.statusCodes.get(place),
        data: { code: row.code, idempotencyKey: row.idempotencyKey },
      };
      const Kind = row.status === 'conflict' ? EventConflictError : EventRejectedError;
      const said = row.error ?? 'the key is in the ledger with another payload';
      return [{ error: new Kind(said, details), event }];
    });
  }

  /** The error that ended the delivery early, holding what was not delivered. */
  get failure(): DeliveryFailedError | undefined {
    if (this.error === undefined) return undefined;
    return new DeliveryFailedError(this.error.message, this.error, this.unsent, this.result);
  }
}

/** Sends the outcome's events and writes their fates into it; `outcome.error` says what stopped it. */
export async function deliver(
  outcome: Outcome,
  transport: Transport,
  policy: RetryPolicy,
  pause: Pause,
  deadline?: number,
): Promise<void> {
  const work = split(outcome.events.map((event, place) => ({ place, event })));
  for (let batch = work.shift(); batch !== undefined; batch = work.shift()) {
    const sending = batch;
    try {
      await transport.attempt(
        requestOf(sending), policy, pause, (reply) => read(reply, sending, outcome), deadline,
      );
    } catch (error) {
      if (!(error instanceof StripeMeterError)) throw error;
      const again = withoutRefused(sending, error, outcome);
      if (again === undefined) {
        outcome.error = error;
        return;
      }
      work.unshift(...again);
    }
  }
}

/** Cuts a sequence of events into requests within the server's limits, keeping the order. */
export function split(placed: readonly Placed[]): Placed[][] {
  const batches: Placed[][] = [];
  let current: Placed[] = [];
  let room = 0;
  for (const item of placed) {
    const size = item.event.bytes + 1;
    if (current.length === 0 || current.length >= REQUEST_EVENTS_MAX || size > room) {
      current = [];
      batches.push(current);
      room = REQUEST_BYTES_MAX - ENVELOPE_BYTES;
    }
    current.push(item);
    room -= size;
  }
  return batches;
}

function requestOf(batch: readonly Placed[]) {
  const body = `{"events":[${batch.map(({ event }) => event.payload).join(',')}]}`;
  return { method: 'POST', path: '/v1/events/ingest', body } as const;
}

/** Takes a 2xx answer; an answer that does not account for every event settles nothing. */
function read(reply: Reply, batch: readonly Placed[], outcome: Outcome): void {
  const data = readObject(reply);
  const verdicts = verdictsOf(data, batch);
  if (verdicts === undefined) {
    throw new DeliveryFailedError('the answer does not account for every event', {
      statusCode: reply.status,
      data,
      retryable: true,
    });
  }
  batch.forEach((placed, offset) => outcome.settle(placed, verdicts[offset] as Verdict));
  const requestId = textOf(data['requestId']);
  if (requestId !== undefined) outcome.requestIds.push(requestId);
}

function verdictsOf(
  data: Record<string, unknown>,
  batch: readonly Placed[],
): Verdict[] | undefined {
  const rows = data['results'];
  if (rows === undefined || rows === null) {
    // An older server only counts: trust it when the counts say that nothing is missing.
    const all = (status: Status): Verdict[] => batch.map(() => ({ status }));
    const { accepted, duplicates } = data;
    if (accepted === batch.length && duplicates === 0) return all('accepted');
    if (accepted === 0 && duplicates === batch.length) return all('duplicate');
    return undefined;
  }
  if (!Array.isArray(rows) || rows.length !== batch.length) return undefined;
  const readRows = rows.map(rowOf);
  const byKey = new Map(readRows.map((row) => [row?.key, row?.verdict]));
  const verdicts = batch.map(({ event }, offset) => {
    const row = readRows[offset];
    const inPlace = row?.key === undefined || row.key === event.idempotencyKey;
    return inPlace ? row?.verdict : byKey.get(event.idempotencyKey);
  });
  const known = verdicts.filter((verdict): verdict is Verdict => verdict !== undefined);
  return known.length === batch.length ? known : undefined;
}

function rowOf(row: unknown): { key: string | undefined; verdict: Verdict } | undefined {
  const status = isObject(row) ? statusOf(row['status']) : undefined;
  if (!isObject(row) || status === undefined) return undefined;
  const error = textOf(row['error']);
  const code = textOf(row['code']);
  const verdict = {
    status,
    ...(error === undefined ? {} : { error }),
    ...(code === undefined ? {} : { code }),
  };
  return { key: textOf(row['idempotencyKey']), verdict };
}

/**
 * Settles the events that made the server refuse the batch and returns what to send again;
 * undefined when the refusal is not about single events (no access, wrong address, server down).
 * Indexes in `errors[]` name the bad events; without them, and for a body that is too large, the
 * batch is halved until the bad event stands alone.
 */
function withoutRefused(
  batch: Placed[],
  error: StripeMeterError,
  outcome: Outcome,
): Placed[][] | undefined {
  const status = error.statusCode;
  if (error.retryable || (status !== 400 && status !== 413 && status !== 422)) return undefined;
  if (status !== 413 && !isObject(error.data)) return undefined; // not an answer of StripeMeter
  const bad = status === 413 ? new Map<number, Verdict>() : refusedIn(error.data, batch.length);
  if (bad.size === 0 && batch.length > 1) {
    const middle = batch.length >> 1;
    return [batch.slice(0, middle), batch.slice(middle)];
  }
  if (bad.size === 0) bad.set(0, { status: 'error', error: error.message });
  for (const [offset, verdict] of bad) {
    const placed = batch[offset] as Placed;
    outcome.settle(placed, verdict);
    outcome.statusCodes.set(placed.place, status);
  }
  if (error.requestId !== undefined) outcome.requestIds.push(error.requestId);
  const rest = batch.filter((_, offset) => !bad.has(offset));
  return rest.length > 0 ? [rest] : [];
}

function refusedIn(data: unknown, count: number): Map<number, Verdict> {
  const rows = isObject(data) && Array.isArray(data['errors']) ? data['errors'] : [];
  const bad = new Map<number, Verdict>();
  for (const row of rows) {
    if (!isObject(row)) continue;
    const index = row['index'];
    if (!Number.isInteger(index) || (index as number) < 0 || (index as number) >= count) continue;
    if (bad.has(index as number)) continue;
    const code = textOf(row['code']);
    const error = textOf(row['detail'] ?? row['error']) ?? 'refused';
    bad.set(index as number, { status: 'error', error, ...(code === undefined ? {} : { code }) });
  }
  return bad;
}
