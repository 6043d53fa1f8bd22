// The optional disk spool: buffered events survive a crash of the caller.
//
// The spool directory holds one folder per running client. Events are appended to numbered segments
// and fsynced before `buffer` returns; verdicts are appended after delivery. A client takes over the
// folders of dead owners: events without a verdict are sent again with the keys they had, so the
// server counts each one once. Should a living owner be taken for dead, its events are sent twice
// and counted once.
//
//     E <crc32> <event JSON>      an event that was buffered
//     D <crc32> ["key", ...]      keys that have a verdict
//
// A line that was torn by a crash fails its checksum and is skipped: its `buffer` call never
// returned. Refused events are kept in `rejected.ndjson` beside the folders.

import * as fs from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { StripeMeterError, isObject, messageOf } from './errors.js';
import { fromPayload } from './events.js';
import type { PreparedEvent } from './events.js';
import { newKey } from './ids.js';

export const SEGMENT_BYTES_MAX = 8 * 1024 * 1024;
const FOLDER_PREFIX = 'node-'; // the Python client has folders of its own, with file locks
const OWNER = 'owner.json';
const REJECTED = 'rejected.ndjson';
const HEARTBEAT_MS = 30_000;
const DEAD_AFTER_MS = 10 * 60_000;

const ownFolders = new Set<string>();

export class Spool {
  private readonly folder: string;
  private readonly outstanding = new Map<string, number>();
  private readonly live = new Map<number, number>();
  private readonly heartbeat: NodeJS.Timeout;
  private segment = 0;
  private descriptor: number;
  private length = 0;
  private closed = false;

  constructor(
    private readonly root: string,
    private readonly fsync: boolean,
    private readonly segmentBytesMax = SEGMENT_BYTES_MAX,
  ) {
    fs.mkdirSync(root, { recursive: true });
    const name = FOLDER_PREFIX + newKey();
    const hidden = join(root, `.${name}`); // until its owner is written down
    fs.mkdirSync(hidden);
    const owner = { pid: process.pid, host: hostname() };
    fs.writeFileSync(join(hidden, OWNER), JSON.stringify(owner));
    this.folder = join(root, name);
    ownFolders.add(this.folder);
    fs.renameSync(hidden, this.folder);
    this.descriptor = this.openSegment();
    syncFolder(root, fsync);
    this.heartbeat = setInterval(() => this.beat(), HEARTBEAT_MS).unref();
  }

  /** Writes an event down; when this returns, it survives a crash. */
  append(event: PreparedEvent): void {
    this.write(line('E', event.payload), true);
    if (!this.outstanding.has(event.idempotencyKey)) {
      this.outstanding.set(event.idempotencyKey, this.segment);
      this.live.set(this.segment, (this.live.get(this.segment) ?? 0) + 1);
    }
    if (this.length > this.segmentBytesMax) this.nextSegment();
  }

  /** Notes that events have a verdict; a segment without open events is deleted. */
  settle(events: readonly PreparedEvent[]): void {
    if (this.closed || events.length === 0) return;
    const keys = events.map((event) => event.idempotencyKey);
    try {
      // No fsync: a lost note only means that a duplicate is sent after a crash.
      this.write(line('D', JSON.stringify(keys)), false);
    } finally {
      keys.forEach((key) => this.forget(key));
      if (this.outstanding.size === 0) {
        fs.ftruncateSync(this.descriptor, 0);
        this.length = 0;
      }
    }
  }

  /** Keeps a refused event for a person to look at. */
  reject(event: PreparedEvent, reason: string): void {
    const row = `{"error":${JSON.stringify(reason)},"event":${event.payload}}\n`;
    fs.appendFileSync(join(this.root, REJECTED), row);
  }

  /** Takes over what dead owners left: rewrites it here, then deletes their folders. */
  adopt(): PreparedEvent[] {
    const adopted: PreparedEvent[] = [];
    const names = fs.readdirSync(this.root).filter((name) => name.startsWith(FOLDER_PREFIX));
    for (const name of names.sort()) {
      const folder = join(this.root, name);
      if (ownFolders.has(folder) || isAlive(folder)) continue;
      for (const event of undelivered(folder)) {
        this.append(event);
        adopted.push(event);
      }
      fs.rmSync(folder, { recursive: true, force: true });
    }
    return adopted;
  }

  /** Lets go of the folder; with nothing open in it, it disappears. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    clearInterval(this.heartbeat);
    fs.closeSync(this.descriptor);
    ownFolders.delete(this.folder);
    if (this.outstanding.size === 0) {
      fs.rmSync(this.folder, { recursive: true, force: true });
    } else {
      fs.rmSync(join(this.folder, OWNER), { force: true }); // anyone may take it over now
    }
  }

  private beat(): void {
    try {
      const now = new Date();
      fs.utimesSync(join(this.folder, OWNER), now, now);
    } catch {
      // Without a heartbeat another start may send the same events; they count once all the same.
    }
  }

  private forget(key: string): void {
    const segment = this.outstanding.get(key);
    if (segment === undefined) return;
    this.outstanding.delete(key);
    const left = (this.live.get(segment) ?? 1) - 1;
    this.live.set(segment, left);
    if (left > 0) return;
    this.live.delete(segment);
    if (segment !== this.segment) this.unlink(segment);
  }

  private nextSegment(): void {
    const finished = this.segment;
    fs.closeSync(this.descriptor);
    this.segment += 1;
    this.descriptor = this.openSegment();
    if (!this.live.has(finished)) this.unlink(finished);
  }

  private openSegment(): number {
    const descriptor = fs.openSync(join(this.folder, segmentName(this.segment)), 'a');
    this.length = 0;
    syncFolder(this.folder, this.fsync);
    return descriptor;
  }

  private unlink(segment: number): void {
    fs.rmSync(join(this.folder, segmentName(segment)), { force: true });
  }

  private write(text: Buffer, durable: boolean): void {
    try {
      const written = fs.writeSync(this.descriptor, text);
      if (written !== text.length) throw new Error(`wrote ${written} of ${text.length} bytes`);
      if (durable && this.fsync) fs.fsyncSync(this.descriptor);
      this.length += text.length;
    } catch (error) {
      this.cutBack();
      throw new StripeMeterError(`the spool cannot be written: ${messageOf(error)}`);
    }
  }

  private cutBack(): void {
    try {
      fs.ftruncateSync(this.descriptor, this.length);
    } catch {
      // The torn line fails its checksum.
    }
  }
}

function segmentName(segment: number): string {
  return `${String(segment).padStart(8, '0')}.log`;
}

function line(kind: 'E' | 'D', body: string): Buffer {
  const bytes = Buffer.from(body);
  return Buffer.concat([Buffer.from(`${kind} ${crc32(bytes)} `), bytes, Buffer.from('\n')]);
}

/** The events of a dead owner's folder that have no verdict, in order. */
function undelivered(folder: string): PreparedEvent[] {
  const events = new Map<string, PreparedEvent>();
  const names = fs.readdirSync(folder).filter((name) => name.endsWith('.log'));
  for (const name of names.sort()) {
    const text = fs.readFileSync(join(folder, name), 'utf8');
    for (const row of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
      const [, kind, checksum, body] = /^([ED]) ([0-9a-f]{8}) (.*)$/.exec(row) ?? [];
      if (body === undefined || crc32(Buffer.from(body)) !== checksum) continue;
      if (kind === 'E') {
        const event = fromPayload(body);
        if (event !== undefined) events.set(event.idempotencyKey, event);
      } else {
        (JSON.parse(body) as string[]).forEach((key) => events.delete(key));
      }
    }
  }
  return [...events.values()];
}

/** Whether the folder's owner still runs, as far as a process can tell of another. */
function isAlive(folder: string): boolean {
  const path = join(folder, OWNER);
  try {
    const owner: unknown = JSON.parse(fs.readFileSync(path, 'utf8'));
    if (!isObject(owner)) return false;
    if (Date.now() - fs.statSync(path).mtimeMs > DEAD_AFTER_MS) return false;
    if (owner['host'] !== hostname()) return true;
    // A folder of this very process id is not of this process, or it would be in `ownFolders`.
    if (owner['pid'] === process.pid) return false;
    process.kill(Number(owner['pid']), 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function syncFolder(folder: string, wanted: boolean): void {
  if (!wanted || process.platform === 'win32') return;
  const descriptor = fs.openSync(folder, 'r');
  try {
    fs.fsyncSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

const CRC_TABLE = Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value >>> 0;
});

function crc32(bytes: Buffer): string {
  let value = 0xffffffff;
  for (const byte of bytes) value = (value >>> 8) ^ (CRC_TABLE[(value ^ byte) & 0xff] as number);
  return ((value ^ 0xffffffff) >>> 0).toString(16).padStart(8, '0');
}
