// StripeMeter client for Node.js: usage events in, exact usage out. No runtime dependency.

import { StripeMeterClient } from './client.js';
import { StripeMeterError } from './errors.js';

export { StripeMeterClient, VERSION, createClient } from './client.js';
export type { ClientOptions } from './client.js';
export type { Quantity } from './encoding.js';
export {
  BufferFullError,
  ClientClosedError,
  DeliveryFailedError,
  EventConflictError,
  EventRejectedError,
  InvalidEventError,
  StripeMeterError,
} from './errors.js';
export type { EventInput, PreparedEvent } from './events.js';
export type { Fetch, RetryPolicy } from './http.js';
export type {
  HistoryPoint,
  HistoryQuery,
  LineItem,
  MetricUsage,
  ProjectionResponse,
  UsageHistory,
  UsageResponse,
} from './reads.js';
export type { EventResult, IngestResult, Status } from './results.js';

// The spelling of the predecessor's package.
export { StripeMeterClient as StripemeterClient, StripeMeterError as StripemeterError };
