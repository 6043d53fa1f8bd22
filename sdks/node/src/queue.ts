// The bounded buffer between the caller and the background flush. Pure state; times are
// milliseconds of the monotonic clock. An event counts against the bound from `put` until its
// verdict, also while it is on its way, so nothing can be dropped to make room.

import { REQUEST_BYTES_MAX, REQUEST_EVENTS_MAX } from './delivery.js';
import type { PreparedEvent } from './events.js';
import type { RetryPolicy } from './http.js';

const HOLD_MAX_MS = 30_000;

interface Waiting {
  readonly since: number;
  readonly event: PreparedEvent;
}

export class EventQueue {
  private waiting: Waiting[] = [];
  private head = 0;
  private readonly onTheWay = new Set<PreparedEvent>();
  private holdUntil = 0;
  private failures = 0;

  constructor(
    private readonly batchSize: number,
    private readonly flushIntervalMs: number,
    private readonly bound: number,
  ) {}

  get size(): number {
    return this.waiting.length - this.head + this.onTheWay.size;
  }

  get isFull(): boolean {
    return this.size >= this.bound;
  }

  put(event: PreparedEvent, now: number): void {
    this.waiting.push({ since: now, event });
  }

  /** Moves the oldest events, as many as one request takes, on their way. */
  take(): PreparedEvent[] {
    const taken: PreparedEvent[] = [];
    let room = REQUEST_BYTES_MAX;
    for (let next = this.waiting[this.head]; next; next = this.waiting[this.head]) {
      const size = next.event.bytes + 1;
      if (taken.length >= REQUEST_EVENTS_MAX || (taken.length > 0 && size > room)) break;
      taken.push(next.event);
      this.onTheWay.add(next.event);
      this.head += 1;
      room -= size;
    }
    if (this.head > 10_000 || this.head === this.waiting.length) {
      this.waiting = this.waiting.slice(this.head);
      this.head = 0;
    }
    return taken;
  }

  /** Forgets events on their way that have a verdict, and ends any hold. */
  settle(events: readonly PreparedEvent[]): void {
    for (const event of events) this.onTheWay.delete(event);
    if (events.length > 0) {
      this.failures = 0;
      this.holdUntil = 0;
    }
  }

  /** Returns events on their way to the front, in their order; they are due at once. */
  putBack(events: readonly PreparedEvent[], now: number): void {
    for (const event of events) this.onTheWay.delete(event);
    const since = now - this.flushIntervalMs;
    const front = events.map((event) => ({ since, event }));
    this.waiting = [...front, ...this.waiting.slice(this.head)];
    this.head = 0;
  }

  /** Keeps the background flush quiet after a failure: longer each time, with jitter. */
  hold(now: number, policy: RetryPolicy, retryAfter: number | undefined): void {
    const ceiling = Math.min(HOLD_MAX_MS, policy.pauseBaseMs * 2 ** Math.min(this.failures, 30));
    this.failures += 1;
    this.holdUntil = now + (retryAfter ?? 0) * 1000 + ceiling * (0.5 + Math.random() / 2);
  }

  /** All events without a verdict, oldest first. */
  everything(): PreparedEvent[] {
    return [...this.onTheWay, ...this.waiting.slice(this.head).map(({ event }) => event)];
  }

  /**
   * Milliseconds until the background flush has work; undefined when nothing waits. Time counts
   * from the oldest event, so a steady trickle cannot put the flush off.
   */
  waitMs(now: number): number | undefined {
    const oldest = this.waiting[this.head];
    if (oldest === undefined) return undefined;
    const together = this.waiting.length - this.head >= this.batchSize;
    const due = together ? now : oldest.since + this.flushIntervalMs;
    return Math.max(0, Math.max(due, this.holdUntil) - now);
  }
}
