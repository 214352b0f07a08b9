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

/** Memory of a device that could not be had. */
export class OutOfMemoryError extends RunError {}

/** A sweep that ran to its end although some of its cells could not be measured. */
export class FailedCellsError extends RunError {}

/** Figures that are worse than those of an earlier run (`--check`). */
export class RegressionError extends RunError {}

/** What was measured cannot be written: there is no sense in measuring more. */
export class OutputError extends RunError {}

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
  EFBIG: 'the file would be larger than the file system or a limit of this process allows',
  EIO: 'the device reports an error',
  ELOOP: 'symbolic links lead in a circle',
  ENAMETOOLONG: 'the name is too long for the file system',
  EPIPE: 'nobody reads the other end of the pipe',
  ERR_FS_FILE_TOO_LARGE: 'the file is too large to be read at once',
  ERR_STRING_TOO_LONG: 'the file is too large to be read as one text',
  ERR_INVALID_ARG_VALUE: 'no name of a file',
};

/** Codes of Node that are not always about a file; these texts are. */
const ABOUT_FILES: Readonly<Record<string, RegExp>> = { ERR_INVALID_ARG_VALUE: /without null bytes/ };

/** The sentence for a file-system error, or null for other errors. */
export function describeSystemError(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const { code = '', path, errno, syscall } = error as NodeJS.ErrnoException;
  if (ABOUT_FILES[code]?.test(error.message) === false) return null;
  const remedy = SYSTEM_REMEDIES[code];
  if (remedy !== undefined) return path === undefined ? remedy : `${path}: ${remedy}`;
  // Rarer ones in the system's own words: `EBADMSG: bad message, read`.
  return errno === undefined || syscall === undefined ? null : error.message;
}

/** How V8, Node and ONNX Runtime say that memory could not be had. */
const NO_MEMORY =
  /^Array buffer allocation failed|^Invalid (typed )?array length: \d+$|^Invalid (array|string|array buffer) length|^The value of "size" is out of range|failed to allocate memory/i;
const NO_MEMORY_CODES = ['ERR_BUFFER_TOO_LARGE', 'ERR_MEMORY_ALLOCATION_FAILED', 'ENOMEM'];

/** The sentence for memory that could not be had, or null for other errors. */
function describeMemoryError(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const { code = '' } = error as NodeJS.ErrnoException;
  if (!NO_MEMORY_CODES.includes(code) && !NO_MEMORY.test(error.message)) return null;
  return 'not enough memory for an array of this run; make the model, the context or the batch smaller';
}

/** Whether memory could not be had, on the device or in this process. */
export function isMemoryError(error: unknown): boolean {
  return error instanceof OutOfMemoryError || describeMemoryError(error) !== null;
}

/** An error for the person at the terminal, as far as this one can be told to them; null for a fault of the program. */
export function asYocoError(error: unknown): YocoError | null {
  if (error instanceof YocoError) return error;
  const message = describeMemoryError(error) ?? describeSystemError(error);
  return message === null ? null : new RunError(message, { cause: error });
}
