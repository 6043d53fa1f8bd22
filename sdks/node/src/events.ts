// An event as it will be sent: made once, then immutable. Key, time and quantity are fixed when the
// caller hands the event over, and so is the very text. Whatever is retried, spooled or sent again
// later is therefore the same fact.

import { jsonText, quantityText, stringText, timestampText } from './encoding.js';
import type { Quantity } from './encoding.js';
import { InvalidEventError, isObject } from './errors.js';
import { newKey } from './ids.js';

const METRIC_CHARS_MAX = 100;
const TEXT_CHARS_MAX = 255;
const EVENT_BYTES_MAX = 1_000_000;

export interface EventInput {
  metric: string;
  /** Defaults to the client's `customerId`. */
  customerRef?: string | undefined;
  /** Defaults to 1. Strings and bigints keep every digit. */
  quantity?: Quantity | undefined;
  resourceId?: string | undefined;
  /** RFC 3339 text with an offset, or a Date; defaults to now. */
  ts?: string | Date | undefined;
  meta?: Record<string, unknown> | undefined;
  /** Defaults to a fresh UUIDv7. */
  idempotencyKey?: string | undefined;
}

/** An event with its final key and JSON text. */
export interface PreparedEvent {
  readonly idempotencyKey: string;
  readonly payload: string;
  readonly bytes: number;
}

const FIELDS = new Set([
  'metric', 'customerRef', 'quantity', 'resourceId', 'ts', 'meta', 'idempotencyKey', 'source',
  'tenantId',
]);

/** Checks and encodes one event; throws InvalidEventError and leaves nothing behind. */
export function prepare(
  tenantId: string,
  customerId: string | undefined,
  input: EventInput | PreparedEvent,
): PreparedEvent {
  if (isPrepared(input)) return input;
  if (!isObject(input)) throw new InvalidEventError('an event must be an object');
  const given: Record<string, unknown> = input;
  const unknown = Object.keys(given).find((name) => !FIELDS.has(name));
  if (unknown !== undefined) throw new InvalidEventError(`unknown event field '${unknown}'`);
  if (given['tenantId'] !== undefined && given['tenantId'] !== tenantId) {
    throw new InvalidEventError("the event is of another tenant than the client's");
  }
  const customer = input.customerRef ?? customerId;
  if (customer === undefined) {
    throw new InvalidEventError('customerRef is missing and the client has no customerId');
  }
  const key = input.idempotencyKey ?? newKey();
  const parts = [
    `"tenantId":${stringText(tenantId)}`,
    `"metric":${text('metric', input.metric, METRIC_CHARS_MAX)}`,
    `"customerRef":${text('customerRef', customer)}`,
    `"quantity":${quantityText(input.quantity ?? 1)}`,
    `"ts":"${timestampText(input.ts)}"`,
    `"idempotencyKey":${text('idempotencyKey', key)}`,
    '"source":"sdk"',
  ];
  if (input.resourceId !== undefined) {
    parts.push(`"resourceId":${text('resourceId', input.resourceId)}`);
  }
  if (input.meta !== undefined) {
    if (!isObject(input.meta)) throw new InvalidEventError('meta must be an object');
    parts.push(`"meta":${jsonText(input.meta)}`);
  }
  return sealed(key, `{${parts.join(',')}}`);
}

/** An event from its own text, as a spool keeps it; undefined when it is none. */
export function fromPayload(payload: string): PreparedEvent | undefined {
  try {
    const fields: unknown = JSON.parse(payload);
    const key = isObject(fields) ? fields['idempotencyKey'] : undefined;
    return typeof key === 'string' ? sealed(key, payload) : undefined;
  } catch {
    return undefined;
  }
}

function sealed(idempotencyKey: string, payload: string): PreparedEvent {
  const bytes = Buffer.byteLength(payload);
  if (bytes > EVENT_BYTES_MAX) {
    throw new InvalidEventError(`the event is larger than ${EVENT_BYTES_MAX} bytes`);
  }
  return Object.freeze({ idempotencyKey, payload, bytes });
}

function isPrepared(input: EventInput | PreparedEvent): input is PreparedEvent {
  return isObject(input) && typeof input['payload'] === 'string' && typeof input['bytes'] === 'number';
}

function text(name: string, value: unknown, longest = TEXT_CHARS_MAX): string {
  if (typeof value !== 'string' || value === '') {
    throw new InvalidEventError(`${name} must be a non-empty string`);
  }
  if ([...value].length > longest) {
    throw new InvalidEventError(`${name} is longer than ${longest} characters`);
  }
  return stringText(value);
}
