// Errors of the client. Every one of them is a StripeMeterError.

import type { PreparedEvent } from './events.js';
import type { IngestResult } from './results.js';

export interface ErrorDetails {
  statusCode?: number | undefined;
  data?: unknown;
  retryable?: boolean;
  /** Seconds the server asked to wait. */
  retryAfter?: number | undefined;
}

/** Something the server refused, or that could not be delivered. */
export class StripeMeterError extends Error {
  override name = 'StripeMeterError';
  /** HTTP status; undefined when no answer came. */
  readonly statusCode: number | undefined;
  /** The decoded answer, or its first characters. */
  readonly data: unknown;
  /** The same events may be sent again, with the same keys. */
  readonly retryable: boolean;
  readonly retryAfter: number | undefined;
  /** The server's own error code and request id, for support. */
  readonly code: string | undefined;
  readonly requestId: string | undefined;

  constructor(message: string, details: ErrorDetails = {}) {
    super(message);
    this.statusCode = details.statusCode;
    this.data = details.data;
    this.retryable = details.retryable ?? false;
    this.retryAfter = details.retryAfter;
    const fields = isObject(details.data) ? details.data : {};
    this.code = textOf(fields['code']);
    this.requestId = textOf(fields['requestId']);
  }
}

/** The event cannot be sent as it was given; nothing was buffered or sent. */
export class InvalidEventError extends StripeMeterError {
  override name = 'InvalidEventError';
}

/** The buffer holds `maxBuffered` undelivered events; this one was not taken. */
export class BufferFullError extends StripeMeterError {
  override name = 'BufferFullError';
}

/** The client was closed before this call. */
export class ClientClosedError extends StripeMeterError {
  override name = 'ClientClosedError';
}

/**
 * Events whose fate is unknown or that were not taken, kept in `events` with their keys.
 * Pass them to `trackBatch` to try again: the keys are the same, so nothing counts twice.
 * `result` holds the answers for the events of the same call that did get through.
 */
export class DeliveryFailedError extends StripeMeterError {
  override name = 'DeliveryFailedError';
  readonly events: readonly PreparedEvent[];
  readonly result: IngestResult | undefined;

  constructor(
    message: string,
    details: ErrorDetails,
    events: readonly PreparedEvent[] = [],
    result?: IngestResult,
  ) {
    super(message, details);
    this.events = events;
    this.result = result;
  }
}

/** The server will never take this event as it is; it was dropped and reported. */
export class EventRejectedError extends StripeMeterError {
  override name = 'EventRejectedError';
}

/** The key is in the ledger with another payload; the ledger keeps the first one. */
export class EventConflictError extends StripeMeterError {
  override name = 'EventConflictError';
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function textOf(value: unknown): string | undefined {
  return value === undefined || value === null ? undefined : String(value);
}

export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? ` (${error.cause.message})` : '';
  return `${error.name}: ${error.message}${cause}`;
}
