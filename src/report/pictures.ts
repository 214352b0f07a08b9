/** Pictures in a directory: names from tables stay in it, and those of an earlier drawing make place for the new ones. */
import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as v from 'valibot';
import { RunError } from '../errors.js';
import { readJsonAs } from '../files/json.js';
import { readBytes } from '../files/read.js';
import { fileNamePart, makeDirectory, writeFileAtomic } from '../files/write.js';
import { svgToPng } from './raster.js';

/** What was drawn: the SHA-256 of each picture by file name. */
const LIST = v.record(v.string(), v.string());
type List = v.InferOutput<typeof LIST>;

const MAX_PICTURE_BYTES = 64 * 2 ** 20;
/** File systems allow 255 bytes; an extension and a temporary name must fit too. */
const LONGEST_STEM = 160;

const hashOf = (content: string | Uint8Array): string => createHash('sha256').update(content).digest('hex');

/** A file name stem from words of a table: no separators, not too long, and no two alike among `taken`. */
export function pictureStem(words: string, taken: ReadonlySet<string> = new Set()): string {
  const plain = fileNamePart(words) || 'picture';
  const stem =
    plain.length <= LONGEST_STEM ? plain : `${plain.slice(0, LONGEST_STEM - 9)}-${hashOf(plain).slice(0, 8)}`;
  for (let n = 1; ; n++) {
    const name = n === 1 ? stem : `${stem}-${n}`;
    if (!taken.has(name)) return name;
  }
}

export interface DrawOptions {
  /** Draw every picture as PNG too. */
  png?: boolean;
  /** Name of the file that lists the pictures, `figures.json`: one for each command that draws into the directory. */
  list: string;
}

/**
 * Writes SVG pictures, each with PNG if asked for. A picture that the same command drew earlier and that is not among the
 * new ones is removed, unless it was changed since; other files are not touched.
 *
 * @param pictures SVG text by stem of the file name
 * @returns the paths written
 */
export async function drawPictures(
  directory: string,
  pictures: ReadonlyMap<string, string>,
  { png = false, list }: DrawOptions,
): Promise<string[]> {
  makeDirectory(directory);
  const path = join(directory, list);
  const drawn = new Map<string, string | Uint8Array>();
  const stems = new Set<string>();
  for (const [words, svg] of pictures) {
    const stem = pictureStem(words, stems);
    stems.add(stem);
    drawn.set(`${stem}.svg`, svg.endsWith('\n') ? svg : `${svg}\n`);
    if (png) drawn.set(`${stem}.png`, await svgToPng(svg));
  }
  removeStale(directory, readList(path), new Set(drawn.keys()));
  for (const [name, content] of drawn) writeFileAtomic(join(directory, name), content);
  const entries = [...drawn].map(([name, content]) => [name, hashOf(content)] as const);
  writeFileAtomic(path, `${JSON.stringify(Object.fromEntries(entries), null, 2)}\n`);
  return [...drawn.keys()].map((name) => join(directory, name));
}

/** Nothing where there is no list, or a damaged one: then nothing is removed. */
function readList(path: string): List {
  try {
    return readJsonAs(path, LIST);
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    return {};
  }
}

function removeStale(directory: string, earlier: List, kept: ReadonlySet<string>): void {
  for (const [name, hash] of Object.entries(earlier)) {
    const isPicture = basename(name) === name && /\.(svg|png)$/.test(name);
    if (!isPicture || kept.has(name)) continue;
    const path = join(directory, name);
    if (currentHash(path) === hash) rmSync(path, { force: true });
  }
}

function currentHash(path: string): string | null {
  try {
    return hashOf(readBytes(path, MAX_PICTURE_BYTES));
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    return null;
  }
}
