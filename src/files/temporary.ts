/** Large temporary files that do not outlive their process. */
import { closeSync, lstatSync, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { hasProcess } from './process.js';
import { writing } from './write.js';

export interface TemporaryFile {
  /** Open for reading and writing. */
  readonly descriptor: number;
  close(): void;
}

/**
 * Opens an empty file in the system's temporary directory. Where the system allows it the file has no name any more
 * when this returns, so that it vanishes with the process however that ends; elsewhere it is removed by `close`, or by
 * the next process that opens one of this prefix.
 * @param prefix of letters and dashes: `yoco-tokens`
 * @throws RunError where the directory cannot be written
 */
export function openTemporary(prefix: string): TemporaryFile {
  return writing(tmpdir(), () => {
    removeAbandoned(prefix);
    const directory = mkdtempSync(join(tmpdir(), `${prefix}-${process.pid}-`));
    const descriptor = openSync(join(directory, 'data.bin'), 'wx+');
    const remove = (): void => {
      rmSync(directory, { recursive: true, force: true });
    };
    // Windows removes no file that is open.
    const removed = tryTo(remove);
    const onExit = (): void => void tryTo(remove);
    if (!removed) process.once('exit', onExit);
    return {
      descriptor,
      close: () => {
        process.off('exit', onExit);
        closeSync(descriptor);
        tryTo(remove);
      },
    };
  });
}

/**
 * Makes a directory in the system's temporary directory, for files that are opened by name. It is removed when the process ends
 * or, where that is killed, by the next process that makes one of this prefix.
 * @throws RunError where it cannot be made
 */
export function temporaryDirectory(prefix: string): string {
  return writing(tmpdir(), () => {
    removeAbandoned(prefix);
    const directory = mkdtempSync(join(tmpdir(), `${prefix}-${process.pid}-`));
    process.once('exit', () => {
      tryTo(() => {
        rmSync(directory, { recursive: true, force: true });
      });
    });
    return directory;
  });
}

/** Removes directories of this prefix whose process is gone. */
function removeAbandoned(prefix: string): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = name.startsWith(`${prefix}-`)
      ? /^(\d{1,7})-\w{6}$/.exec(name.slice(prefix.length + 1))?.[1]
      : undefined;
    if (pid === undefined || hasProcess(Number(pid))) continue;
    const directory = join(tmpdir(), basename(name));
    // Another user's cannot be removed, which is no failure of ours.
    tryTo(() => {
      if (lstatSync(directory).isDirectory()) rmSync(directory, { recursive: true, force: true });
    });
  }
}

function tryTo(act: () => void): boolean {
  try {
    act();
    return true;
  } catch {
    return false;
  }
}
