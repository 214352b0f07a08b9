/** How one step of an experiment runs: a command in this process, a benchmark of the checkout in one of its own. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import type { Config } from '@oclif/core';
import { RunError } from '../errors.js';
import { packageRoot } from '../package-root.js';
import type { ExperimentStep } from './experiment.js';

export interface StepOptions {
  /** False: measure again what is there. */
  resume: boolean;
  quiet: boolean;
  /** Compare the step's table with an earlier one. */
  check?: { file: string; tolerance: number };
}

/** @throws what the command throws; RunError where a script fails or is not there */
export async function runStep(config: Config, step: ExperimentStep, options: StepOptions): Promise<void> {
  if (step.kind === 'script') {
    await runScript(step);
    return;
  }
  const [, ...args] = stepWords(config, step, options);
  await config.runCommand(step.command, args);
}

/** The words of a step that is a command. */
export function stepWords(config: Config, step: ExperimentStep, options: StepOptions): string[] {
  const { check } = options;
  return [
    step.command,
    ...step.args,
    ...(takes(config, step, 'resume') && !options.resume ? ['--no-resume'] : []),
    ...(check ? ['--check', check.file, '--tolerance', String(check.tolerance)] : []),
    ...(options.quiet ? ['--quiet'] : []),
  ];
}

/** The steps, those that measure on an engine and name none with this one. */
export function withEngine<S extends ExperimentStep>(
  config: Config,
  steps: readonly S[],
  engine: string,
): S[] {
  return steps.map((step) =>
    step.kind !== 'run' || !takes(config, step, 'engine') || step.args.includes('--engine')
      ? step
      : { ...step, args: [...step.args, '--engine', engine] },
  );
}

/** Where a step writes, below the experiment's output directory. */
export function outputFolder({ args }: ExperimentStep, out: string): string {
  const directory = args[args.indexOf('--out') + 1];
  const folder = args.includes('--out') && directory !== undefined ? relative(out, directory) : '.';
  return folder.startsWith('..') || folder === '' ? '.' : folder;
}

export const takes = (config: Config, { command }: ExperimentStep, flag: string): boolean =>
  flag in (config.findCommand(command)?.flags ?? {});

/**
 * The table in `reference` that a step is compared with; null where the step compares nothing or there is none. A command's
 * main table is called after the command.
 *
 * @param out the experiment's output directory
 */
export function referenceTable(
  config: Config,
  step: ExperimentStep,
  out: string,
  reference: string,
): string | null {
  const at = step.args.indexOf('--out');
  const directory = step.args[at + 1];
  if (step.kind !== 'run' || at < 0 || directory === undefined || !takes(config, step, 'check')) return null;
  const file = join(reference, relative(out, directory), `${step.command}.csv`);
  return existsSync(file) ? file : null;
}

/** Benchmarks are TypeScript and not part of the npm package. */
async function runScript({ command, args }: ExperimentStep): Promise<void> {
  const file = join(packageRoot, command);
  if (!existsSync(file))
    throw new RunError(`${command} is part of a checkout of yoco, not of its npm package`);
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), file, ...args], {
    stdio: 'inherit',
  });
  const status = await new Promise<number | null>((done, fail) => {
    child.once('error', fail);
    child.once('close', done);
  });
  if (status !== 0) throw new RunError(`${command} ended with status ${String(status)}`);
}
