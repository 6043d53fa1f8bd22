// What the server said about each event, in the order the events were given.

export type Status = 'accepted' | 'duplicate' | 'conflict' | 'error';

/**
 * The fate of one event. `accepted`: newly in the ledger. `duplicate`: was there already, with the
 * same payload. `conflict`: the key is there with another payload. `error`: refused, see `error`.
 */
export interface EventResult {
  readonly index: number;
  readonly idempotencyKey: string;
  readonly status: Status;
  readonly error?: string;
  readonly code?: string;
}

/** Answers for all events of one call, also when it took several requests. */
export interface IngestResult {
  readonly accepted: number;
  readonly duplicates: number;
  readonly conflicts: number;
  /** Events the server refused; they are in no total. */
  readonly errors: readonly EventResult[];
  readonly results: readonly EventResult[];
  readonly requestId: string | undefined;
  readonly requestIds: readonly string[];
  /** Every event is in the ledger as it was given. */
  readonly ok: boolean;
}

export function summarise(
  results: readonly EventResult[],
  requestIds: readonly string[],
): IngestResult {
  const count = (status: Status): number => results.filter((row) => row.status === status).length;
  const errors = results.filter((row) => row.status === 'error');
  const conflicts = count('conflict');
  return {
    accepted: count('accepted'),
    duplicates: count('duplicate'),
    conflicts,
    errors,
    results,
    requestId: requestIds.at(-1),
    requestIds,
    ok: errors.length === 0 && conflicts === 0,
  };
}

/** Puts consecutive results together and numbers the events afresh. */
export function merge(parts: readonly IngestResult[]): IngestResult {
  const results = parts.flatMap((part) => part.results).map((row, index) => ({ ...row, index }));
  return summarise(results, parts.flatMap((part) => part.requestIds));
}

export function statusOf(value: unknown): Status | undefined {
  return value === 'accepted' || value === 'duplicate' || value === 'conflict' || value === 'error'
    ? value
    : undefined;
}
