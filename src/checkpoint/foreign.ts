/** What a person may have in place of a checkpoint, and what would be read instead. */
import { existsSync, readdirSync } from 'node:fs';
import { extname, join } from 'node:path';
import { RunError } from '../errors.js';
import type { RandomAccessFile } from './files.js';

const LFS = 'version https://git-lfs.github.com/spec/';
const READ =
  'safetensors, or an archive of torch.save (version 1.6 or later) as checkpoint.pth with params.json';

/** Refuses the small text file that git leaves in place of a large one. */
export function refusePointer(file: RandomAccessFile): void {
  if (file.size > 1024) return;
  if (
    !Buffer.from(file.read(0, Math.min(file.size, LFS.length)))
      .toString('latin1')
      .startsWith(LFS)
  )
    return;
  throw new RunError(
    `${file.path} is a git-lfs pointer, not the file itself: fetch it with 'git lfs pull' in the directory it came in`,
  );
}

/** Says which weights a directory has that are not read. @throws RunError where it has some */
export function refuseOtherWeights(directory: string): void {
  const names = readdirSync(directory).sort();
  const bin = names.find((name) => /^pytorch_model.*\.bin$/.test(name));
  if (bin !== undefined) {
    throw new RunError(
      `${join(directory, bin)} holds the weights in a form that is not read: save the model again as safetensors (transformers: save_pretrained)`,
    );
  }
  const other = names.find((name) => /\.(pth?|bin|ckpt)$/.test(name));
  if (other !== undefined && !existsSync(join(directory, 'params.json'))) {
    throw new RunError(
      `${join(directory, other)}: a file of weights alone says no configuration; what is read: ${READ}`,
    );
  }
}

/** Says what a file is that was given as a checkpoint, if that is known. */
export function describeFile(path: string): string {
  const kinds: Readonly<Record<string, string>> = {
    '.safetensors': ' of weights',
    '.bin': ' of weights',
    '.pth': ' of weights',
    '.pt': ' of weights',
  };
  return `${path} is a file${kinds[extname(path)] ?? ''}`;
}
