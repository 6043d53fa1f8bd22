// One request until it is settled: which failures are tried again, and when.

import { DeliveryFailedError, StripeMeterError, isObject, messageOf, textOf } from './errors.js';

export interface Request {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body?: string;
}

/** The part of an answer the client reads. */
export interface Reply {
  readonly status: number;
  readonly retryAfter: number | undefined;
  readonly data: unknown;
}

/** `attempts` counts the tries after the first one. Times are milliseconds. */
export interface RetryPolicy {
  readonly attempts: number;
  readonly pauseBaseMs: number;
  readonly pauseMaxMs: number;
  readonly retryAfterMaxMs: number;
}

export const DEFAULT_POLICY: RetryPolicy = {
  attempts: 3,
  pauseBaseMs: 250,
  pauseMaxMs: 10_000,
  retryAfterMaxMs: 60_000,
};

/** Waits; resolves true when the wait was cut short and trying should end. */
export type Pause = (milliseconds: number) => Promise<boolean>;

/** What the client needs of `fetch`, so that its types need neither the DOM's nor Node's. */
export type Fetch = (
  url: string,
  init: {
    method: string;
    redirect: 'manual';
    signal: any;
    headers: Record<string, string>;
    body?: string;
  },
) => Promise<{
  status: number;
  headers: { get(name: string): string | null };
  text(): Promise<string>;
}>;

/** Full jitter: uniform below a doubling ceiling, on top of what the server asked for. */
export function pauseMs(policy: RetryPolicy, attempt: number, retryAfter?: number): number {
  const ceiling = Math.min(policy.pauseMaxMs, policy.pauseBaseMs * 2 ** Math.min(attempt, 30));
  return (retryAfter ?? 0) * 1000 + Math.random() * ceiling;
}

export class Transport {
  constructor(
    private readonly apiUrl: string,
    private readonly headers: Record<string, string>,
    private readonly timeoutMs: number,
    private readonly fetch: Fetch,
  ) {}

  /** Tries until `read` takes the answer, the failure is final or patience ends; then throws. */
  async attempt<T>(
    request: Request,
    policy: RetryPolicy,
    pause: Pause,
    read: (reply: Reply) => T,
    deadline?: number,
  ): Promise<T> {
    for (let tried = 0; ; tried += 1) {
      try {
        return read(await this.send(request, deadline));
      } catch (error) {
        if (!(error instanceof StripeMeterError) || !error.retryable) throw error;
        const tooLong = (error.retryAfter ?? 0) * 1000 > policy.retryAfterMaxMs;
        if (tried >= policy.attempts || tooLong) throw error;
        if (await pause(pauseMs(policy, tried, error.retryAfter))) throw error;
      }
    }
  }

  private async send(request: Request, deadline: number | undefined): Promise<Reply> {
    const left = deadline === undefined ? this.timeoutMs : deadline - Date.now();
    const signal = AbortSignal.timeout(Math.max(50, Math.min(this.timeoutMs, left)));
    try {
      const answer = await this.fetch(this.apiUrl + request.path, {
        method: request.method,
        redirect: 'manual',
        signal,
        headers:
          request.body === undefined
            ? this.headers
            : { ...this.headers, 'content-type': 'application/json' },
        ...(request.body === undefined ? {} : { body: request.body }),
      });
      return readReply(answer.status, answer.headers.get('retry-after'), await answer.text());
    } catch (error) {
      throw new DeliveryFailedError(`no answer from the server: ${messageOf(error)}`, {
        retryable: true,
      });
    }
  }
}

/**
 * The JSON object of a 2xx answer; throws for everything else. A 2xx that is no JSON object did not
 * come from StripeMeter (a proxy, a captive portal): it acknowledges nothing and is tried again.
 */
export function readObject(reply: Reply): Record<string, unknown> {
  if (reply.status < 200 || reply.status >= 300) throw failureOf(reply);
  if (isObject(reply.data)) return reply.data;
  throw new DeliveryFailedError('the answer is not a JSON object', {
    statusCode: reply.status,
    data: reply.data,
    retryable: true,
  });
}

function failureOf(reply: Reply): StripeMeterError {
  const fields = isObject(reply.data) ? reply.data : {};
  const said = fields['detail'] ?? fields['message'] ?? fields['error'] ?? fields['title'];
  return new StripeMeterError(`HTTP ${reply.status}: ${textOf(said) ?? 'no explanation'}`, {
    statusCode: reply.status,
    data: reply.data,
    retryable: [408, 425, 429].includes(reply.status) || reply.status >= 500,
    retryAfter: reply.retryAfter,
  });
}

function readReply(status: number, retryAfter: string | null, text: string): Reply {
  let data: unknown = text.slice(0, 500);
  try {
    data = JSON.parse(text);
  } catch {
    // Not JSON: `data` shows how the answer starts.
  }
  return { status, retryAfter: retryAfterSeconds(retryAfter), data };
}

/** `Retry-After` in seconds from now, from seconds or an HTTP date. */
export function retryAfterSeconds(value: string | null): number | undefined {
  const text = value?.trim() ?? '';
  if (text === '') return undefined;
  if (/^[0-9]+$/.test(text)) return Number(text);
  const moment = Date.parse(text);
  return Number.isNaN(moment) ? undefined : Math.max(0, (moment - Date.now()) / 1000);
}
