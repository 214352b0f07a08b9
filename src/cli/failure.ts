import { describeSystemError, YocoError } from '../errors.js';

/** One line for stderr (empty: say nothing) and the exit status. */
export interface Failure {
  message: string;
  exitCode: number;
}

const oneLine = (text: string): string => text.replace(/\s+/g, ' ').trim();

interface OclifError extends Error {
  oclif?: { exit?: number };
  code?: string;
}

/** oclif's parse errors are several lines and end in a hint; ours are one line. */
function describeParseError(message: string): string {
  return oneLine(
    message
      .replace(/\n?See more help with --help/g, '')
      .replace(/Parsing --(\S+)\s+/g, '--$1: ')
      .replace(/The following errors? occurred:/g, ''),
  );
}

/**
 * The line and the exit status for anything a command has thrown. Unexpected errors (ours, that is) keep their stack.
 */
export function describeFailure(error: unknown, commandIds: readonly string[]): Failure {
  if (error instanceof YocoError) {
    return { message: `yoco: ${describeParseError(error.message)}`, exitCode: error.exitCode };
  }
  const system = describeSystemError(error);
  if (system !== null) return { message: `yoco: ${oneLine(system)}`, exitCode: 1 };
  if (!(error instanceof Error)) return { message: `yoco: ${String(error)}`, exitCode: 1 };
  const { oclif, code } = error as OclifError;
  if (code === 'EEXIT') return { message: '', exitCode: oclif?.exit ?? 0 };
  const unknown = /^command (.+) not found$/.exec(error.message)?.[1];
  if (unknown !== undefined) {
    return {
      message: `yoco: no command '${unknown}'; the commands are ${commandIds.join(', ')}`,
      exitCode: 2,
    };
  }
  if (oclif) return { message: `yoco: ${describeParseError(error.message)}`, exitCode: 2 };
  return { message: `yoco: unexpected error\n${error.stack ?? error.message}`, exitCode: 1 };
}
