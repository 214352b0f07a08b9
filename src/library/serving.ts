/** The HTTP server. Not part of `src/index.ts`: serving loads a framework. */
export { PrefixStore } from '../evaluation/generation/prefix-store.js';
export { SequenceRunner } from '../evaluation/generation/sequence-runner.js';
export { scoringBatch } from '../evaluation/scoring/memory.js';
export { isLocal } from '../serving/listen.js';
export { startServer, type RunningServer } from '../serving/server.js';
