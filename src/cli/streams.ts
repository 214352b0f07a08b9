/** What becomes of a command whose reader has gone, or whose output cannot be written. */
// oclif listens too, once this is loaded, and throws whatever is not a closed pipe.
import '@oclif/core/command';
import { describeSystemError } from '../errors.js';

/** Why stdout takes no more: nobody reads it, or it cannot be written. */
let ended: 'closed' | 'failed' | null = null;

/** Whether somebody still reads stdout. Commands that only write a stream of text stop when nobody does. */
export const isRead = (): boolean => ended === null;

/**
 * Listens to stdout and stderr. A reader of stdout that has seen enough (`yoco … | head`) is no failure, but a command
 * that writes files or compares figures still does that, and has the exit status of it.
 * @returns the exit status of a command that ended with `exitCode`
 */
export function watchStreams(): (exitCode: number) => number {
  process.stdout.removeAllListeners('error');
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (ended !== null) return;
    ended = error.code === 'EPIPE' ? 'closed' : 'failed';
    if (ended === 'closed') return;
    process.exitCode = process.exitCode === undefined || process.exitCode === 0 ? 1 : process.exitCode;
    process.stderr.write(`yoco: cannot write to stdout: ${describeSystemError(error) ?? error.message}\n`);
  });
  // Remarks that nobody can read change nothing.
  process.stderr.on('error', () => undefined);
  return (exitCode) => (exitCode === 0 && ended === 'failed' ? 1 : exitCode);
}

/** Puts a mark before every line that is written to a stream from now on. */
export function markLines(stream: NodeJS.WriteStream, mark: string): void {
  const write = stream.write.bind(stream) as (text: string, ...rest: unknown[]) => boolean;
  let isLineStart = true;
  const marked = (text: string): string => {
    if (text === '') return '';
    const start = isLineStart ? mark : '';
    isLineStart = text.endsWith('\n');
    return start + text.replace(/\n(?!$)/g, `\n${mark}`);
  };
  stream.write = (chunk: string | Uint8Array, ...rest: unknown[]): boolean =>
    write(marked(typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString()), ...rest);
}
