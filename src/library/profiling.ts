/** Profiles: memory, prefill time and decoding rate against context. */
export type { MemoryFigures, MemoryKey } from '../profiling/memory.js';
export type { PrefillFigures, PrefillKey } from '../profiling/prefill.js';
export { END_TO_END_SCHEMA } from '../profiling/end-to-end-table.js';
export type { EndToEndFigures, EndToEndKey } from '../profiling/end-to-end.js';
export {
  profileEndToEnd,
  type BatchChange,
  type ProfileEndToEndOptions,
} from '../profiling/profile-end-to-end.js';
export { profileMemory, type NotMeasured, type ProfileMemoryOptions } from '../profiling/profile-memory.js';
export { profilePrefill, type ProfilePrefillOptions } from '../profiling/profile-prefill.js';
export { profileThroughput, type ProfileThroughputOptions } from '../profiling/profile-throughput.js';
export { MEMORY_SCHEMA, PREFILL_SCHEMA, THROUGHPUT_SCHEMA } from '../profiling/tables.js';
export type { ThroughputFigures, ThroughputKey } from '../profiling/throughput.js';
export type { SweepProgress } from '../sweep/sweep.js';
export type { Profile, RunRecord, TableOutput } from '../sweep/table.js';
