/**
 * An error whose message is meant for the person at the terminal: one line that names what is wrong and
 * what to do about it. The command line prints it without a stack and exits with `exitCode`.
 */
export class YocoError extends Error {
  readonly exitCode: number = 1;

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** Wrong usage: a flag, a preset, a configuration or the name of a file that cannot be meant. Exit status 2. */
export class UsageError extends YocoError {
  override readonly exitCode = 2;
}

/** Right usage that could not be carried out: a damaged file, a full disk, not enough memory. Exit status 1. */
export class RunError extends YocoError {
  override readonly exitCode = 1;
}

/** A sweep that ran to its end although some of its cells could not be measured. */
export class FailedCellsError extends RunError {}

/** Figures that are worse than those of an earlier run (`--check`). */
export class RegressionError extends RunError {}

/** Failures of the operating system that a person can fix, by code. */
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
