import type { EngineFlags } from '../engines/start.js';
import type { Session } from '../evaluation/session.js';
import type { ModelChoice } from '../sweep/model-key.js';
import { BaseCommand } from './base-command.js';

/** The parsed flags of a command that evaluates models. */
export interface EvaluationFlags extends EngineFlags {
  readonly seed: number;
  readonly tokenizer?: string;
  readonly out?: string;
  readonly check?: string;
  readonly resume: boolean;
}

/** What every evaluation takes. */
export interface Evaluation extends Session {
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
    const { directory, resume, record } = await this.output({ ...flags });
    const { startSession } = await import('../library/evaluation.js');
    const { note, detail } = this.reports();
    const { seed, tokenizer } = flags;
    const session = await startSession({ ...about, record, seed, tokenizer, engine: flags, note, detail });
    return { ...session, directory, resume, note };
  }
}
