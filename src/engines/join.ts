import { SOLO, type Communicator } from '../distributed/communicator.js';
import type { Ranks } from '../distributed/ranks.js';
import { UsageError } from '../errors.js';
import type { Engine } from './engine.js';
import { type EngineFlags, startChosenEngine, type StartReports } from './start.js';

/**
 * The communicator of a process on its engine: NCCL on `cuda`, MPI on `cpu`.
 * @throws UsageError for an engine that works in one process only
 * @throws RunError where the ranks do not meet
 */
export async function joinRanks(engine: Engine, ranks: Ranks | null): Promise<Communicator> {
  if (ranks === null) return SOLO;
  if (engine.join === undefined) {
    throw new UsageError(
      `engine ${engine.name} works in one process, but ${ranks.launcher} started ${ranks.size}: use --engine cuda or cpu`,
    );
  }
  return engine.join(ranks);
}

/** Starts the engine of a process, on the device of its rank, and joins it to the others. */
export async function startOnRank(
  flags: EngineFlags,
  ranks: Ranks | null,
  reports: StartReports,
): Promise<{ engine: Engine; communicator: Communicator }> {
  const engine = await startChosenEngine({ ...flags, device: ranks?.localRank }, reports);
  const communicator = await joinRanks(engine, ranks);
  if (ranks !== null) reports.note?.(`${ranks.size} ranks (${communicator.description})`);
  return { engine, communicator };
}
