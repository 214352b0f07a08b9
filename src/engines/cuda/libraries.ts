import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import { koffiIsLoaded } from '../exit.js';
import { RunError } from '../../errors.js';

koffiIsLoaded(koffi);

/**
 * What a native function takes: device addresses are numbers (they fit in 47 bits), host memory is a typed array, an array of C
 * strings is one of strings.
 */
export type NativeArgument = number | bigint | string | ArrayBufferView | readonly string[] | null;
export type NativeFunction = (...args: NativeArgument[]) => number;

export interface NativeLibrary {
  readonly path: string;
  /** Binds one C function; `types` are koffi type names. */
  bind(name: string, types: readonly string[]): NativeFunction;
}

/** Folders that may hold the CUDA runtime libraries, the ones the person named first. */
function libraryFolders(environment: NodeJS.ProcessEnv, systemRoot = '/usr/local'): string[] {
  const roots = [environment.CUDA_PATH, environment.CUDA_HOME].filter(
    (root): root is string => root !== undefined && root !== '',
  );
  const installed = existsSync(systemRoot)
    ? readdirSync(systemRoot)
        .filter((name) => /^cuda(-1[23].*)?$/.test(name))
        .sort()
        .map((name) => join(systemRoot, name))
    : [];
  return [
    ...[...roots, ...installed].flatMap((root) => [
      join(root, 'lib64'),
      join(root, 'lib'),
      join(root, 'targets/x86_64-linux/lib'),
    ]),
    '/usr/lib/x86_64-linux-gnu',
    '/usr/lib64',
    '/opt/cuda/lib64',
  ];
}

/** Every path to try for a library, best first: each folder and each version, then the loader's own search. */
export function libraryCandidates(
  stem: string,
  versions: readonly number[],
  folders: readonly string[],
  exists: (path: string) => boolean = existsSync,
): string[] {
  const names = versions.map((version) => `${stem}.so.${version}`);
  const found = folders.flatMap((folder) => names.map((name) => join(folder, name))).filter(exists);
  return [...found, ...names];
}

/** The installed CUDA headers (`cuda.h`'s folder) are not needed: the kernels include only each other. */
export function openLibrary(stem: string, versions: readonly number[], purpose: string): NativeLibrary {
  const candidates = libraryCandidates(stem, versions, libraryFolders(process.env));
  const reasons: string[] = [];
  for (const path of candidates) {
    try {
      const library = koffi.load(path);
      return {
        path,
        bind: (name, types) => library.func(name, 'int', [...types]),
      };
    } catch (error) {
      reasons.push(error instanceof Error ? error.message : String(error));
    }
  }
  const names = versions.map((version) => `${stem}.so.${version}`).join(' or ');
  throw new RunError(
    `the cuda engine needs ${names} (${purpose}), not found on the library path, in CUDA_PATH or /usr/local/cuda: ${reasons.at(-1) ?? ''}`,
  );
}
