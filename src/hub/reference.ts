/** How a person names a repository of a hub: `hf:owner/name[@revision][:part]`. */
import { UsageError } from '../errors.js';

export interface Reference {
  /** As it was written. */
  readonly text: string;
  /** `owner/name`; old repositories have no owner. */
  readonly repository: string;
  /** Branch, tag or commit; default `main`. */
  readonly revision: string;
  /** Of a data set: a split, `configuration/split`, or a file or glob. */
  readonly part?: string;
  /** Of a checkpoint: one of several state dicts (`#ema`). */
  readonly stateDict?: string;
}

const PREFIX = 'hf:';
const FORM = /^hf:(?<repository>[^@:#]+)(?:@(?<revision>[^:#]+))?(?::(?<part>[^#]+))?(?:#(?<stateDict>.+))?$/;
/** The hub's own rule: letters, digits, `-_.`, at most 96; no `--` and no `..`; `-` and `.` neither first nor last. */
const NAME = /^(?!.*(?:--|\.\.))(?![-.])[\w.-]{1,96}(?<![-.])$/;
/** Git refuses more; this keeps a revision a path without surprises. */
const REVISION = /^(?!.*\.\.)(?![/-])[\w./-]{1,255}(?<![/.])$/;

export const isReference = (text: string): boolean => text.startsWith(PREFIX);

/** @throws UsageError that says the form */
export function parseReference(text: string): Reference {
  const { repository = '', revision, part, stateDict } = FORM.exec(text)?.groups ?? {};
  const names = repository.split('/');
  const fail = (problem: string): never => {
    throw new UsageError(
      `'${text}' ${problem}: write hf:owner/name, hf:owner/name@revision or hf:owner/name:split`,
    );
  };
  if (names.length > 2 || !names.every((name) => NAME.test(name))) return fail('names no repository');
  if (revision !== undefined && !REVISION.test(revision)) return fail('has no valid revision');
  return { text, repository, revision: revision ?? 'main', part, stateDict };
}

/** `owner/name` from what a person may give where only a repository can be meant, with or without `hf:`. */
export function parseRepositoryName(text: string): string {
  const { repository, part, stateDict } = parseReference(isReference(text) ? text : PREFIX + text);
  if (!repository.includes('/') || part !== undefined || stateDict !== undefined || text.includes('@')) {
    throw new UsageError(`'${text}' is no name of a repository: write owner/name`);
  }
  return repository;
}
