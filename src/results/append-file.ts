import { closeSync, fstatSync, ftruncateSync, openSync } from 'node:fs';
import { writeFileAtomic, writeWhole, writing } from '../files/write.js';

/** A text file that grows by whole records: a record that does not fit on the disk leaves no half of itself. */
export class AppendFile {
  private descriptor: number | null = null;

  constructor(readonly path: string) {}

  /** Sets the whole content, atomically. */
  replace(text: string): void {
    this.close();
    writeFileAtomic(this.path, text);
  }

  append(text: string): void {
    writing(this.path, () => {
      const descriptor = (this.descriptor ??= openSync(this.path, 'a'));
      const { size } = fstatSync(descriptor);
      try {
        writeWhole(descriptor, text);
      } catch (error) {
        ftruncateSync(descriptor, size);
        throw error;
      }
    });
  }

  close(): void {
    if (this.descriptor !== null) closeSync(this.descriptor);
    this.descriptor = null;
  }
}
