/** Profiles: memory, prefill time and decoding rate against context. */
export type { MemoryFigures, MemoryKey } from '../profiling/memory.js';
export type { PrefillFigures, PrefillKey } from '../profiling/prefill.js';
export { profileMemory, type NotMeasured, type ProfileMemoryOptions } from '../profiling/profile-memory.js';
export { profilePrefill, type ProfilePrefillOptions } from '../profiling/profile-prefill.js';
export { profileThroughput, type ProfileThroughputOptions } from '../profiling/profile-throughput.js';
export { MEMORY_SCHEMA, PREFILL_SCHEMA, THROUGHPUT_SCHEMA } from '../profiling/tables.js';
export type { ThroughputFigures, ThroughputKey } from '../profiling/throughput.js';
export type { SweepProgress } from '../sweep/sweep.js';
export type { Profile, RunRecord, TableOutput } from '../sweep/table.js';
