/** Engines: what computes. */
export {
  ENGINE_NAMES,
  type Engine,
  type EngineMemory,
  type EngineName,
  type EngineOptions,
  type StorageType,
  weightTypeOf,
} from '../engines/engine.js';
export { startChosenEngine, startEngine } from '../engines/start.js';
export { diagnose, type Diagnosis, type Finding, type FindingStatus } from '../engines/doctor.js';
