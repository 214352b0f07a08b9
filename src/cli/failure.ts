import { YocoError } from '../errors.js';

/** One line for stderr (empty: say nothing) and the exit status. */
export interface Failure {
  message: string;
  exitCode: number;
}

/** Failures of the operating system that a person can mend, by code. */
const SYSTEM_REMEDIES: Readonly<Record<string, string>> = {
  ENOSPC: 'no space left on the device; free some and run the command again',
  EDQUOT: 'disk quota exceeded; free some space and run the command again',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EROFS: 'the file system is read-only',
  ENOENT: 'no such file or directory',
  ENOTDIR: 'a part of the path is not a directory',
  EISDIR: 'is a directory, a file was expected',
  EEXIST: 'exists already',
  EMFILE: 'too many open files',
};

/** The sentence for a file-system error, or null for other errors. */
export function describeSystemError(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const { code, path } = error as NodeJS.ErrnoException;
  const remedy = code === undefined ? undefined : SYSTEM_REMEDIES[code];
  if (remedy === undefined) return null;
  return path === undefined ? remedy : `${path}: ${remedy}`;
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
