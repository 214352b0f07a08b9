/**
 * The cache that Hugging Face's libraries share, so that each finds what the other has fetched:
 *
 *     models--OWNER--NAME/refs/REVISION           the commit that a branch or tag was
 *     models--OWNER--NAME/blobs/HASH              the files by what they hold
 *     models--OWNER--NAME/snapshots/COMMIT/PATH   links to them
 *     models--OWNER--NAME/listings/COMMIT.json    ours: which files a commit has, for work without the network
 */
import { copyFileSync, existsSync, readFileSync, symlinkSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import * as v from 'valibot';
import { OutputError } from '../errors.js';
import { insideFile } from '../files/inside.js';
import { checkShape, readJsonAs } from '../files/json.js';
import { makeDirectory, writeFileAtomic, writing } from '../files/write.js';
import type { RemoteFile } from './download.js';

export type RepositoryKind = 'model' | 'dataset';

export const COMMIT = /^[0-9a-f]{40}$/;

/** A repository of a hundred thousand files. */
const MAX_LISTING_BYTES = 64 * 2 ** 20;

const SIZE = v.pipe(v.number(), v.safeInteger('expected a whole number'), v.minValue(0));
const SHA256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, 'expected a SHA-256'));
const SHA1 = v.pipe(v.string(), v.regex(COMMIT, 'expected a SHA-1'));
const ENTRY = v.variant('kind', [
  v.object({ kind: v.literal('sha256'), hex: SHA256 }),
  v.object({ kind: v.literal('git-sha1'), hex: SHA1 }),
]);
const LISTING = v.array(v.object({ path: v.string(), size: SIZE, hash: ENTRY }));

/** Checks what a hub or a file says of files. @throws RunError naming `where` */
export const checkListing = (where: string, files: unknown): readonly RemoteFile[] =>
  checkShape(where, files, LISTING);

/** The folder of a repository in a cache. */
export class RepositoryCache {
  readonly folder: string;

  constructor(
    readonly cache: string,
    readonly kind: RepositoryKind,
    readonly repository: string,
  ) {
    this.folder = join(cache, this.name);
  }

  /** `models--owner--name` */
  get name(): string {
    return [`${this.kind}s`, ...this.repository.split('/')].join('--');
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit);
  }

  blob({ hash }: RemoteFile): string {
    return join(this.folder, 'blobs', hash.hex);
  }

  /** Where a file of a commit is or will be. @throws RunError for a path out of the snapshot */
  file(commit: string, { path }: Pick<RemoteFile, 'path'>): string {
    return insideFile(this.snapshot(commit), path, `${this.repository}: its list of files`);
  }

  /** The commit that a revision was when it was last asked for; undefined where it never was. */
  commitOf(revision: string): string | undefined {
    if (COMMIT.test(revision)) return revision;
    const file = this.ref(revision);
    if (!existsSync(file)) return undefined;
    const commit = readFileSync(file, 'utf8').trim();
    return COMMIT.test(commit) ? commit : undefined;
  }

  private ref(revision: string): string {
    return insideFile(join(this.folder, 'refs'), revision, 'the revision');
  }

  private listing(commit: string): string {
    return join(this.folder, 'listings', `${commit}.json`);
  }

  /** Which files a commit has; undefined where that was not kept. @throws RunError where the list is damaged */
  files(commit: string): readonly RemoteFile[] | undefined {
    const file = this.listing(commit);
    return existsSync(file) ? readJsonAs(file, LISTING, MAX_LISTING_BYTES) : undefined;
  }

  /** Keeps what the hub has said. A cache that cannot be written costs time only. */
  remember(revision: string, commit: string, files: readonly RemoteFile[]): void {
    try {
      if (!COMMIT.test(revision) && this.commitOf(revision) !== commit)
        this.write(this.ref(revision), commit);
      if (!existsSync(this.listing(commit))) this.write(this.listing(commit), JSON.stringify(files));
    } catch (error) {
      if (!(error instanceof OutputError)) throw error;
    }
  }

  private write(path: string, content: string): void {
    makeDirectory(dirname(path));
    writeFileAtomic(path, content);
  }

  /** Gives a blob its name in a snapshot: a link, or a copy where the file system has none. */
  link(commit: string, file: RemoteFile): void {
    const path = this.file(commit, file);
    const blob = this.blob(file);
    makeDirectory(dirname(path));
    writing(path, () => {
      try {
        symlinkSync(relative(dirname(path), blob), path);
      } catch (error) {
        const { code = '' } = error as NodeJS.ErrnoException;
        if (!['EPERM', 'ENOTSUP', 'ENOSYS', 'EINVAL'].includes(code)) throw error;
        copyFileSync(blob, path);
      }
    });
  }
}

/** What a folder of the cache is a snapshot of: `{ repository: 'owner/name', commit }`; null for other folders. */
export function snapshotOf(directory: string): { repository: string; commit: string } | null {
  const path = resolve(directory);
  const commit = basename(path);
  const [, ...names] = basename(dirname(dirname(path))).split('--');
  const isSnapshot = COMMIT.test(commit) && basename(dirname(path)) === 'snapshots' && names.length > 0;
  return isSnapshot ? { repository: names.join('/'), commit } : null;
}

/** How a record names a directory: a snapshot by what it is, since its place differs from machine to machine. */
export function describeDirectory(directory: string): string {
  const snapshot = snapshotOf(directory);
  return snapshot === null ? directory : `hf:${snapshot.repository}@${snapshot.commit}`;
}
