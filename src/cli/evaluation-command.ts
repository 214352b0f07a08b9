import type { EngineFlags } from '../engines/start.js';
import type { Session } from '../evaluation/session.js';
import type { ModelChoice } from '../sweep/model-key.js';
import type { Communicator } from '../distributed/communicator.js';
import { BaseCommand } from './base-command.js';

/** The parsed flags of a command that evaluates models. */
export interface EvaluationFlags extends EngineFlags {
  readonly seed: number;
  readonly tokenizer?: string;
  readonly out?: string;
  readonly check?: string;
  readonly resume: boolean;
  readonly 'context-parallel'?: number;
}

/** What every evaluation takes. */
export interface Evaluation extends Session {
  readonly communicator: Communicator;
  readonly directory: string;
  readonly resume: boolean;
  readonly note: (line: string) => void;
}

/** Parent of the commands that evaluate models. */
export abstract class EvaluationCommand extends BaseCommand {
  /** @param about the models, and the SHA-256 of the data read, by name */
  protected async startEvaluation(
    flags: EvaluationFlags,
    about: { choices: readonly ModelChoice[]; inputs: Readonly<Record<string, string>> },
  ): Promise<Evaluation> {
    const output = await this.output({ ...flags });
    const { startSession } = await import('../library/evaluation.js');
    const { note, detail } = this.reports();
    const { seed, tokenizer, 'context-parallel': contextParallel } = flags;
    const place = { ranks: this.ranks(), contextParallel };
    const settings = { record: output.record, seed, tokenizer, engine: flags, note, detail };
    const session = await startSession({ ...about, ...settings, ...place });
    const { directory, resume } = this.outputOfRank(session.communicator, output);
    return { ...session, directory, resume, note };
  }
}
