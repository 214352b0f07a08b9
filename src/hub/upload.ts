/** Puts files into a repository of the hub, as one commit. */
import { statSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { RunError, UsageError } from '../errors.js';
import { fetchFor, StatusError, type Purpose } from './http.js';
import { hubObserver } from './observer.js';
import { hubSettings } from './settings.js';

export interface UploadFile {
  /** In the repository. */
  readonly path: string;
  /** A file of this machine, or the content itself. */
  readonly content: { readonly file: string } | { readonly text: string };
}

export interface UploadOptions {
  /** `owner/name` */
  readonly repository: string;
  readonly files: readonly UploadFile[];
  readonly summary: string;
  /** Of a repository that is made. One that exists stays as it is. */
  readonly isPrivate: boolean;
}

export interface Upload {
  /** Its page. */
  readonly url: string;
  readonly commit: string;
  /** Whether the repository was made. */
  readonly isNew: boolean;
}

/**
 * Makes the repository of a model where there is none, and commits the files to `main`.
 * @throws UsageError without a token or without the network, RunError where the hub refuses
 */
export async function uploadModel({ repository, files, summary, isPrivate }: UploadOptions): Promise<Upload> {
  const settings = hubSettings();
  const { token, offline, endpoint } = settings;
  if (offline) throw new UsageError('HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set: unset it to push');
  if (token === null) {
    throw new UsageError(
      `push needs a token that may write: make one at ${endpoint}/settings/tokens and set HF_TOKEN`,
    );
  }
  const purpose: Purpose = { settings, about: `hf:${repository}` };
  const isNew = await create(purpose, repository, isPrivate);
  const commit = await commitFiles(purpose, repository, files, summary);
  return { url: `${endpoint}/${repository}`, commit, isNew };
}

/** `fetchFor` adds the token; the library asks for one of the usual form. */
const credentials = ({ settings }: Purpose): { hubUrl: string; accessToken: string } => ({
  hubUrl: settings.endpoint,
  accessToken: 'hf_',
});

/** @returns whether it was made; false where it is there already */
async function create(purpose: Purpose, name: string, isPrivate: boolean): Promise<boolean> {
  const { createRepo } = await import('@huggingface/hub');
  const visibility = isPrivate ? 'private' : 'public';
  try {
    await createRepo({
      ...credentials(purpose),
      repo: { type: 'model', name },
      visibility,
      fetch: fetchFor(purpose),
    });
    return true;
  } catch (error) {
    if (error instanceof StatusError && error.status === 409) return false;
    throw error;
  }
}

async function commitFiles(
  purpose: Purpose,
  name: string,
  files: readonly UploadFile[],
  title: string,
): Promise<string> {
  const { commitIter } = await import('@huggingface/hub');
  const sizes = new Map(
    files.map(({ path, content }) => [path, 'file' in content ? statSync(content.file).size : 0]),
  );
  const total = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  const sent = new Map<string, number>();
  const steps = commitIter({
    ...credentials(purpose),
    repo: { type: 'model', name },
    title,
    operations: files.map(({ path, content }) => ({
      operation: 'addOrUpdate' as const,
      path,
      content: 'file' in content ? pathToFileURL(content.file) : new Blob([content.text]),
    })),
    fetch: fetchFor(purpose),
  });
  const { progress, end } = hubObserver();
  try {
    for (;;) {
      const step = await steps.next();
      if (step.done === true) return commitIn(purpose, step.value);
      const { value } = step;
      if (value.event !== 'fileProgress' || value.state !== 'uploading') continue;
      sent.set(value.path, value.progress * (sizes.get(value.path) ?? 0));
      progress({ done: [...sent.values()].reduce((sum, bytes) => sum + bytes, 0), total, file: value.path });
    }
  } finally {
    end();
  }
}

function commitIn({ about }: Purpose, output: unknown): string {
  const { oid } = (output as { commit?: { oid?: string } } | undefined)?.commit ?? {};
  if (oid === undefined) throw new RunError(`${about}: the hub names no commit`);
  return oid;
}
