// Waiting that can be cut short.

import { performance } from 'node:perf_hooks';

import type { Pause } from './http.js';

/** A flag that can be waited for. */
export class Signal {
  #isSet = false;
  #waiters = new Set<() => void>();

  set(): void {
    this.#isSet = true;
    const waiters = this.#waiters;
    this.#waiters = new Set();
    waiters.forEach((wake) => wake());
  }

  clear(): void {
    this.#isSet = false;
  }

  /** Resolves true when the flag is set, false when the time is over first. */
  async wait(milliseconds?: number): Promise<boolean> {
    if (this.#isSet) return true;
    return new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined;
      const wake = (): void => {
        clearTimeout(timer);
        resolve(true);
      };
      this.#waiters.add(wake);
      if (milliseconds === undefined) return;
      timer = setTimeout(() => {
        this.#waiters.delete(wake);
        resolve(false);
      }, milliseconds);
    });
  }
}

export function monotonicMs(): number {
  return performance.now();
}

/** A pause that a signal cuts short. */
export function pauseUnless(signal: Signal): Pause {
  return (milliseconds) => signal.wait(milliseconds);
}

/** A pause that does not go past `deadline` (milliseconds of the wall clock). */
export function pauseUntil(deadline: number): Pause {
  return async (milliseconds) => {
    const left = Math.max(0, Math.min(milliseconds, deadline - Date.now()));
    await new Promise((resolve) => setTimeout(resolve, left));
    return Date.now() >= deadline;
  };
}
