// Exact numbers and times: a quantity reaches the wire digit for digit.

import { performance } from 'node:perf_hooks';

import { InvalidEventError } from './errors.js';

const QUANTITY_DIGITS_MAX = 38;
const QUANTITY_DECIMALS_MAX = 12;
const JSON_DEPTH_MAX = 32;
const NUMBER = /^([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]{1,3}))?$/;
const INSTANT =
  /^(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:\d{2})$/;

/** Strings and bigints are exact; a number is taken by its shortest decimal text. */
export type Quantity = number | bigint | string;

/** A quantity as a plain JSON number; throws InvalidEventError for what the ledger cannot keep. */
export function quantityText(value: Quantity): string {
  if (typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value)) {
    throw new InvalidEventError('quantity is past 2^53: pass it as a string or a bigint');
  }
  if (!['number', 'bigint', 'string'].includes(typeof value)) {
    throw new InvalidEventError(`quantity must be a number, not ${typeof value}`);
  }
  const text = String(value).trim();
  if (text.startsWith('-') && Number(text) < 0) {
    throw new InvalidEventError('quantity must not be negative; corrections are adjustments');
  }
  const match = NUMBER.exec(text.replace(/^[-+]/, ''));
  if (match === null) throw new InvalidEventError(`quantity is not a finite number: ${text}`);
  return plain(match[1] ?? '', match[2] ?? '', Number(match[3] ?? 0));
}

function plain(whole: string, fraction: string, exponent: number): string {
  let digits = whole + fraction;
  let point = whole.length + exponent;
  if (point < 0) {
    digits = '0'.repeat(-point) + digits;
    point = 0;
  }
  digits = digits.padEnd(point, '0');
  const integer = digits.slice(0, point).replace(/^0+/, '');
  const decimals = digits.slice(point).replace(/0+$/, '');
  if (
    decimals.length > QUANTITY_DECIMALS_MAX ||
    integer.length + decimals.length > QUANTITY_DIGITS_MAX
  ) {
    throw new InvalidEventError('quantity has more than 38 digits or more than 12 decimals');
  }
  return (integer || '0') + (decimals ? `.${decimals}` : '');
}

/** An event time as RFC 3339 UTC text with microseconds; now when none is given. */
export function timestampText(value: Date | string | undefined): string {
  if (value === undefined) return nowText();
  if (value instanceof Date) {
    if (Number.isNaN(value.getTime())) throw new InvalidEventError('ts is not a valid date');
    return value.toISOString().replace('Z', '000Z');
  }
  const match = INSTANT.exec(String(value));
  if (match === null) {
    throw new InvalidEventError(`ts is not an RFC 3339 time with an offset: ${String(value)}`);
  }
  const [, day, time, fraction = '', offset = 'Z'] = match;
  if (fraction.length > 6) throw new InvalidEventError('ts has more than six fraction digits');
  const seconds = new Date(`${day}T${time}${offset.toUpperCase()}`);
  if (Number.isNaN(seconds.getTime())) throw new InvalidEventError(`ts is not a time: ${value}`);
  return `${seconds.toISOString().slice(0, 19)}.${fraction.padEnd(6, '0')}Z`;
}

let origin = Date.now() - performance.now();

/** The wall clock with microseconds: the monotonic clock, set anew when the wall clock moved. */
function nowText(): string {
  const wall = Date.now();
  let now = origin + performance.now();
  if (Math.abs(now - wall) > 1) {
    origin = wall - performance.now();
    now = wall;
  }
  const milliseconds = Math.floor(now);
  const microseconds = Math.floor((now - milliseconds) * 1000);
  const text = new Date(milliseconds).toISOString();
  return `${text.slice(0, 23)}${String(microseconds).padStart(3, '0')}Z`;
}

/** Compact JSON of plain data; refuses what JSON.stringify would quietly change or drop. */
export function jsonText(value: unknown, depth = 0): string {
  if (depth > JSON_DEPTH_MAX) throw new InvalidEventError('meta is nested too deep');
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new InvalidEventError('meta holds a non-finite number');
    return JSON.stringify(value);
  }
  if (typeof value === 'string') return stringText(value);
  if (Array.isArray(value)) {
    return `[${value.map((item) => jsonText(item, depth + 1)).join(',')}]`;
  }
  if (typeof value === 'object') {
    if (value instanceof Date) return jsonText(value.toJSON(), depth);
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    const texts = members.map(([name, member]) => `${stringText(name)}:${jsonText(member, depth + 1)}`);
    return `{${texts.join(',')}}`;
  }
  throw new InvalidEventError(`meta holds a ${typeof value}, which is not JSON`);
}

/** A JSON string; a lone surrogate has no UTF-8 form. */
export function stringText(value: string): string {
  if (/\p{Surrogate}/u.test(value)) throw new InvalidEventError('text holds a lone surrogate');
  return JSON.stringify(value);
}
