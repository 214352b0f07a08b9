/** Repositories as the hub of the tests stores them. */
import { createHash } from 'node:crypto';

/** The hash of parts, one after the other. */
export const hex = (kind: string, ...parts: (string | Buffer)[]): string => {
  const hash = createHash(kind);
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
};

export const sha256 = (content: Buffer): string => hex('sha256', content);
export const gitSha1 = (content: Buffer): string => hex('sha1', `blob ${content.length}\0`, content);

export interface StoredFile {
  readonly content: Buffer;
  /** In large-file storage: fetched from another address, known by its SHA-256. */
  readonly isLarge: boolean;
}

export interface StoredRepository {
  readonly kind: 'models' | 'datasets';
  readonly name: string;
  /** Whether only a token opens it. */
  readonly isPrivate?: boolean;
  readonly isGated?: boolean;
  files: Map<string, StoredFile>;
  readonly commits: string[];
  readonly branches: Map<string, StoredRepository>;
}
