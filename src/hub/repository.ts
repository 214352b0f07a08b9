/** A repository at one commit: which files it has, and fetching some of them into the cache. */
import { existsSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { RunError } from '../errors.js';
import { lockWhenFree } from '../files/lock.js';
import { checkShape } from '../files/json.js';
import { makeDirectory } from '../files/write.js';
import { checkListing, COMMIT, RepositoryCache, type RepositoryKind } from './cache.js';
import { download, type RemoteFile } from './download.js';
import { fetchFor, type Purpose } from './http.js';
import { hubObserver } from './observer.js';
import { isReference, parseReference, type Reference } from './reference.js';
import { hubSettings, type HubSettings } from './settings.js';

/** What a run has taken from a hub, for its record. */
export interface HubInput {
  readonly repository: string;
  readonly kind: RepositoryKind;
  readonly commit: string;
  /** Of the files used: `sha256:…`, or `git-sha1:…` where the hub has no other. */
  readonly files: Readonly<Record<string, string>>;
}

const TREE_ENTRY = v.object({
  path: v.string(),
  type: v.string(),
  size: v.number(),
  oid: v.string(),
  lfs: v.optional(v.object({ oid: v.string(), size: v.number() })),
});

/** Downloads of this process come one after the other, whoever asks for them. */
let queue: Promise<unknown> = Promise.resolve();

export class Repository {
  private readonly used = new Map<string, RemoteFile>();

  constructor(
    private readonly purpose: Purpose,
    private readonly cache: RepositoryCache,
    readonly commit: string,
    /** Null where the cache has a snapshot that another program has made, and the hub is not asked. */
    readonly files: readonly RemoteFile[] | null,
  ) {}

  get label(): string {
    return this.purpose.about;
  }

  /** Where the files are. */
  get directory(): string {
    return this.cache.snapshot(this.commit);
  }

  /** Where a file is or will be. @throws RunError where its name leads elsewhere */
  pathOf(file: Pick<RemoteFile, 'path'>): string {
    return this.cache.file(this.commit, file);
  }

  get input(): HubInput {
    const { kind, repository } = this.cache;
    const hashes = [...this.used.values()].map(
      ({ path, hash }) => [path, `${hash.kind}:${hash.hex}`] as const,
    );
    return { repository, kind, commit: this.commit, files: Object.fromEntries(hashes.sort()) };
  }

  /**
   * Fetches what is not there yet. Another process that fetches from the same repository is waited for.
   * @returns the directory in which the files lie by their paths
   * @throws RunError where a file cannot be had, is damaged or does not fit the disk
   */
  async fetch(files: readonly RemoteFile[]): Promise<string> {
    const work = queue.then(async () => {
      if (this.missing(files).length === 0) return;
      const { offline } = this.purpose.settings;
      if (offline) throw notCached(this.purpose, this.missing(files)[0]?.path ?? '');
      const unlock = await lockWhenFree(join(this.cache.cache, '.locks', this.cache.name), 'yoco', {
        doing: 'downloading',
        onWait: hubObserver().note,
      });
      try {
        await this.download(this.missing(files));
      } finally {
        unlock();
      }
    });
    queue = work.catch(() => undefined);
    await work;
    for (const file of files) this.used.set(file.path, file);
    return this.directory;
  }

  private missing(files: readonly RemoteFile[]): RemoteFile[] {
    return files.filter((file) => !existsSync(this.pathOf(file)));
  }

  private async download(files: readonly RemoteFile[]): Promise<void> {
    const total = files.reduce((sum, { size }) => sum + size, 0);
    makeDirectory(join(this.cache.folder, 'blobs'));
    this.requireSpace(total);
    const { progress, end } = hubObserver();
    let before = 0;
    try {
      for (const file of files) {
        const target = this.cache.blob(file);
        const onBytes = (done: number): void => {
          progress({ done: before + done, total, file: file.path });
        };
        if (!existsSync(target)) {
          await download({ purpose: this.purpose, url: this.url(file), file, target, onBytes });
        }
        this.cache.link(this.commit, file);
        before += file.size;
      }
    } finally {
      end();
    }
  }

  private url({ path }: RemoteFile): string {
    const { kind, repository } = this.cache;
    const root = kind === 'model' ? '' : `${kind}s/`;
    const encoded = path.split('/').map(encodeURIComponent).join('/');
    return `${this.purpose.settings.endpoint}/${root}${repository}/resolve/${this.commit}/${encoded}`;
  }

  private requireSpace(bytes: number): void {
    const { bavail, bsize } = statfsSync(this.cache.folder);
    const free = bavail * bsize;
    if (bytes <= free) return;
    throw new RunError(
      `${this.label}: ${Math.ceil(bytes / 1e6)} MB are to be fetched, but ${this.cache.cache} has ${Math.floor(free / 1e6)} MB free: ` +
        'free some, or name another folder with HF_HUB_CACHE',
    );
  }
}

function notCached({ about, settings }: Purpose, what: string): RunError {
  return new RunError(
    `${about}: ${what === '' ? 'it' : JSON.stringify(what)} is not in the cache ${settings.cache}, and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set: ` +
      'unset it to fetch',
  );
}

/** What this process has opened, by kind, reference, hub and cache: a branch that moves meanwhile changes nothing. */
const opened = new Map<string, Promise<Repository>>();
const resolved: { readonly key: string; readonly repository: Repository }[] = [];

const keyOf = ({ repository, revision }: Reference, { endpoint, cache, offline }: HubSettings): string =>
  [repository, revision, endpoint, cache, offline].join('\n');

/**
 * Finds out the commit of a revision and its files, once in a process.
 * @throws UsageError for a repository or revision that is not there, RunError where the hub cannot be asked
 */
export function openRepository(kind: RepositoryKind, reference: Reference): Promise<Repository> {
  const settings = hubSettings();
  const { repository: name, revision } = reference;
  const key = keyOf(reference, settings);
  const known = opened.get(kind + key);
  if (known !== undefined) return known;
  const about = `hf:${name}${revision === 'main' ? '' : `@${revision}`}`;
  const cache = new RepositoryCache(settings.cache, kind, name);
  const repository = open({ settings, about }, cache, revision);
  opened.set(kind + key, repository);
  repository.then(
    (found) => resolved.push({ key, repository: found }),
    () => opened.delete(kind + key),
  );
  return repository;
}

/** What references came to in this process, by the text of each; other texts are left out. */
export function hubInputs(texts: Iterable<string>): Record<string, HubInput[]> {
  const inputs: Record<string, HubInput[]> = {};
  for (const text of texts) {
    if (!isReference(text)) continue;
    const key = keyOf(parseReference(text), hubSettings());
    const found = resolved.filter((other) => other.key === key);
    if (found.length > 0) inputs[text] = found.map(({ repository }) => repository.input);
  }
  return inputs;
}

async function open(purpose: Purpose, cache: RepositoryCache, revision: string): Promise<Repository> {
  const cached = cache.commitOf(revision);
  const listed = cached === undefined ? undefined : cache.files(cached);
  if (purpose.settings.offline) {
    if (cached === undefined || !(listed ?? existsSync(cache.snapshot(cached)))) throw notCached(purpose, '');
    return new Repository(purpose, cache, cached, listed ?? null);
  }
  // What a commit has never changes.
  if (COMMIT.test(revision) && listed !== undefined) return new Repository(purpose, cache, revision, listed);
  const commit = await commitOf(purpose, cache, revision);
  const files = cache.files(commit) ?? (await listFiles(purpose, cache, commit));
  cache.remember(revision, commit, files);
  return new Repository(purpose, cache, commit, files);
}

async function commitOf(
  purpose: Purpose,
  { kind, repository }: RepositoryCache,
  revision: string,
): Promise<string> {
  const { modelInfo, datasetInfo } = await import('@huggingface/hub');
  const query = { name: repository, revision, hubUrl: purpose.settings.endpoint, fetch: fetchFor(purpose) };
  const { sha } =
    kind === 'model'
      ? await modelInfo({ ...query, additionalFields: ['sha'] })
      : await datasetInfo({ ...query, additionalFields: ['sha'] });
  if (!COMMIT.test(sha)) throw new RunError(`${purpose.about}: the hub names no commit`);
  return sha;
}

async function listFiles(
  purpose: Purpose,
  { kind, repository: name }: RepositoryCache,
  commit: string,
): Promise<readonly RemoteFile[]> {
  const hub = await import('@huggingface/hub');
  const where = `${purpose.about}: the hub's list of files`;
  const files: RemoteFile[] = [];
  const query = { repo: { type: kind, name }, revision: commit, recursive: true } as const;
  for await (const item of hub.listFiles({
    ...query,
    hubUrl: purpose.settings.endpoint,
    fetch: fetchFor(purpose),
  })) {
    const { type, path, size, oid, lfs } = checkShape(where, item, TREE_ENTRY);
    if (type !== 'file') continue;
    files.push({
      path,
      size: lfs?.size ?? size,
      hash: lfs === undefined ? { kind: 'git-sha1', hex: oid } : { kind: 'sha256', hex: lfs.oid },
    });
  }
  return checkListing(where, files);
}
