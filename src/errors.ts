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
