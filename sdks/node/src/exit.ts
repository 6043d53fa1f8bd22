// The end of the process: clients with undelivered events get one more flush when the event loop
// runs empty. A killed process, or one that calls process.exit(), gets none: that is the spool's job.

export interface Leaver {
  /** Flush with a time limit; never rejects. Called when the event loop has run empty. */
  flushAtExit(): Promise<void>;
  /** Say what is lost; the process is ending. */
  sayGoodbye(): void;
}

const leavers = new Set<Leaver>();
const flushed = new WeakSet<Leaver>();
let isListening = false;

/** Remember a client while it has undelivered events. */
export function remember(client: Leaver): void {
  leavers.add(client);
  if (isListening) return;
  isListening = true;
  process.on('beforeExit', () => {
    for (const client of leavers) {
      if (flushed.has(client)) continue; // it had its chance: do not keep the process for ever
      flushed.add(client);
      void client.flushAtExit();
    }
  });
  process.on('exit', () => leavers.forEach((client) => client.sayGoodbye()));
}

export function forget(client: Leaver): void {
  leavers.delete(client);
  flushed.delete(client);
}
