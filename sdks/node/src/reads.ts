// Reading usage: the answers of the three read routes, and the query of the history route.
//
// `N` is how numbers arrive: `number` by default, `string` with the option `decimals: 'string'`,
// which keeps every digit of totals that a number cannot hold.

import { InvalidEventError } from './errors.js';

export interface MetricUsage<N> {
  name: string;
  current: N;
  limit?: N | null;
  unit?: string;
}

export interface UsageResponse<N> {
  customerRef: string;
  /** Days, both inclusive. */
  period: { start: string; end: string };
  metrics: MetricUsage<N>[];
  alerts: unknown[];
}

export interface LineItem<N> {
  metric: string;
  quantity: N;
  unitPrice: N | null;
  total: N;
}

/**
 * Money is in major units of `currency`. `subtotal`, `total` and `currency` are null when the lines
 * are of several currencies: then `totals` has one entry for each.
 */
export interface ProjectionResponse<N> {
  customerRef: string;
  periodStart: string;
  periodEnd: string;
  lineItems: LineItem<N>[];
  subtotal: N | null;
  credits: N;
  total: N | null;
  currency: string | null;
  totals?: Record<string, unknown>[];
  freshness?: { lastUpdate: string; staleness: N };
}

export interface HistoryPoint<N> {
  ts: string;
  value: N;
}

/** Non-empty buckets, oldest first. */
export interface UsageHistory<N> {
  points: HistoryPoint<N>[];
  /** The answer as the server gave it. */
  raw: Record<string, unknown>;
}

/** One of the two documented forms of the history route; they do not mix. */
export interface HistoryQuery {
  metric: string;
  customerRef?: string;
  /** By periods: instants, both inclusive. */
  periodStart?: string | Date;
  periodEnd?: string | Date;
  step?: 'day' | 'month';
  /** As a series: instants, or relative text such as `-P1D`. */
  since?: string | Date;
  until?: string | Date;
  interval?: 'minute' | 'hour' | 'day';
}

export function historyParams(query: HistoryQuery): Record<string, string> {
  const byPeriod = {
    periodStart: instant(query.periodStart),
    periodEnd: instant(query.periodEnd),
    step: query.step,
  };
  const bySeries = {
    since: instant(query.since),
    until: instant(query.until),
    interval: query.interval,
  };
  const isSeries = Object.values(bySeries).some((value) => value !== undefined);
  const isPeriod = Object.values(byPeriod).some((value) => value !== undefined);
  if (isSeries === isPeriod) {
    throw new InvalidEventError(
      'give either periodStart, periodEnd (and step) or since (until, interval)',
    );
  }
  if (isPeriod && (byPeriod.periodStart === undefined || byPeriod.periodEnd === undefined)) {
    throw new InvalidEventError('periodStart and periodEnd go together');
  }
  return defined(isSeries ? bySeries : byPeriod);
}

/** The members that have a value. */
export function defined(fields: Record<string, string | undefined>): Record<string, string> {
  const pairs = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries(pairs) as Record<string, string>;
}

function instant(value: string | Date | undefined): string | undefined {
  return value instanceof Date ? value.toISOString() : value;
}
