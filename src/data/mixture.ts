/** Texts of several sources, each with a name and a weight: `books=novels/*.txt:3`. */
import { existsSync } from 'node:fs';
import { UsageError } from '../errors.js';

export interface SourceSpec {
  /** Null for the one source of texts without names. */
  readonly name: string | null;
  /** Corpora, files, globs and directories. */
  readonly paths: readonly string[];
  /** Share of the tokens trained on, against the sum of all; null where nobody has one: as many as the texts have. */
  readonly weight: number | null;
}

const NAMED = /^([A-Za-z][\w-]*)=(.+)$/;
const WEIGHTED = /^(.+):(\d+(?:\.\d*)?|\.\d+)$/;
const SYNTAX = 'NAME=PATH or NAME=PATH:WEIGHT';

interface Part {
  readonly name: string | null;
  readonly path: string;
  readonly weight: number | null;
}

function parse(spec: string): Part {
  const [, name, rest = ''] = NAMED.exec(spec) ?? [];
  // A file may have such a name.
  if (name === undefined || existsSync(spec)) return { name: null, path: spec, weight: null };
  const [, path, weight] = WEIGHTED.exec(rest) ?? [];
  if (path === undefined || existsSync(rest)) return { name, path: rest, weight: null };
  const value = Number(weight);
  if (value > 0 && Number.isFinite(value)) return { name, path, weight: value };
  throw new UsageError(`'${spec}': the weight of a source must be a positive number`);
}

/**
 * Groups texts by the names of their sources: all have one, or none.
 * @throws UsageError where some have a name or a weight and others do not, or two weights of a source differ
 */
export function parseSources(specs: readonly string[]): SourceSpec[] {
  const parts = specs.map(parse);
  const nameless = parts.find(({ name }) => name === null);
  if (nameless !== undefined) {
    const named = parts.find(({ name }) => name !== null);
    if (named === undefined) return [{ name: null, paths: specs, weight: null }];
    throw new UsageError(`'${nameless.path}' has no name beside '${named.name ?? ''}': write ${SYNTAX}`);
  }
  const names = [...new Set(parts.map(({ name }) => name ?? ''))];
  const sources = names.map((name) => group(name, parts));
  const [light, heavy] = [true, false].map((none) =>
    sources.find(({ weight }) => (weight === null) === none),
  );
  if (light === undefined || heavy === undefined) return sources;
  throw new UsageError(
    `source '${light.name ?? ''}' has no weight, but '${heavy.name ?? ''}' has: give all of them one, or none`,
  );
}

function group(name: string, parts: readonly Part[]): SourceSpec {
  const own = parts.filter((part) => part.name === name);
  const weights = [...new Set(own.map(({ weight }) => weight).filter((weight) => weight !== null))];
  const [weight = null, other] = weights;
  if (other === undefined) return { name, paths: own.map(({ path }) => path), weight };
  throw new UsageError(`source '${name}' has the weights ${weights.join(' and ')}: give it one of them`);
}
