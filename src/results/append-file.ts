import { closeSync, existsSync, fstatSync, ftruncateSync, openSync } from 'node:fs';
import { OutputError } from '../errors.js';
import { writeFileAtomic, writeWhole, writing } from '../files/write.js';

/** A text file that grows by whole records: a record that does not fit on the disk leaves no half of itself. */
export class AppendFile {
  private descriptor: number | null = null;

  constructor(readonly path: string) {}

  /** Sets the whole content, atomically. */
  replace(content: string | Uint8Array): void {
    this.close();
    writeFileAtomic(this.path, content);
  }

  /** @throws OutputError where the record cannot be written, or where the file is no longer at its place */
  append(text: string): void {
    writing(this.path, () => {
      const descriptor = (this.descriptor ??= openSync(this.path, 'a'));
      const { size } = fstatSync(descriptor);
      try {
        writeWhole(descriptor, text);
      } catch (error) {
        shorten(descriptor, size);
        throw error;
      }
    });
    this.verify();
  }

  /** Writing into a file that was deleted or moved away succeeds. @throws OutputError where that has happened */
  verify(): void {
    const isGone = this.descriptor !== null && fstatSync(this.descriptor).nlink === 0;
    if (isGone || !existsSync(this.path)) {
      throw new OutputError(`${this.path} was moved or deleted while this command was writing to it`);
    }
  }

  close(): void {
    const { descriptor } = this;
    this.descriptor = null;
    if (descriptor === null) return;
    writing(this.path, () => {
      closeSync(descriptor);
    });
  }
}

function shorten(descriptor: number, size: number): void {
  try {
    ftruncateSync(descriptor, size);
  } catch {
    // The error that led here says more. What is left of the record is dropped when the file is opened again.
  }
}
