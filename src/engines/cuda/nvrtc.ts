import { createHash } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { RunError } from '../../errors.js';
import { cacheFolder } from '../../files/cache.js';
import { makeDirectory } from '../../files/write.js';
import { openLibrary } from './libraries.js';
import { exitOnSignals } from './signals.js';

export interface CompileRequest {
  /** File name for messages. */
  name: string;
  source: string;
  /** What it includes, by the name under which it does. */
  headers: Readonly<Record<string, string>>;
  architecture: string;
  defines: Readonly<Record<string, number | string>>;
}

/** Options in a fixed order: they are part of the cache key. */
export function compileOptions(request: CompileRequest): string[] {
  const defines = Object.entries(request.defines).sort(([a], [b]) => (a < b ? -1 : 1));
  return [
    `--gpu-architecture=${request.architecture}`,
    '--std=c++17',
    ...defines.map(([name, value]) => `-D${name}=${value}`),
  ];
}

/** Everything that determines the machine code: source, headers, options and compiler. */
export function cacheKey(request: CompileRequest, compiler: string): string {
  const hash = createHash('sha256');
  const headers = Object.entries(request.headers).sort(([a], [b]) => (a < b ? -1 : 1));
  for (const part of [compiler, ...compileOptions(request), request.source, ...headers.flat()])
    hash.update(part).update('\0');
  return hash.digest('hex');
}

export interface Compiler {
  readonly description: string;
  /** Machine code for the request, from the disk cache when it has been compiled before. */
  compile(request: CompileRequest): Uint8Array;
}

const P = 'void *';
const U64 = 'uint64';
const STRINGS = 'const char **';

export function openCompiler(): Compiler {
  const library = openLibrary(
    'libnvrtc',
    [13, 12],
    'the CUDA run-time compiler of the CUDA 12 or 13 toolkit',
  );
  const versionOf = library.bind('nvrtcVersion', [P, P]);
  const create = library.bind('nvrtcCreateProgram', [P, 'str', 'str', 'int', STRINGS, STRINGS]);
  const compileProgram = library.bind('nvrtcCompileProgram', [U64, 'int', STRINGS]);
  const logSize = library.bind('nvrtcGetProgramLogSize', [U64, P]);
  const log = library.bind('nvrtcGetProgramLog', [U64, P]);
  const size = library.bind('nvrtcGetCUBINSize', [U64, P]);
  const image = library.bind('nvrtcGetCUBIN', [U64, P]);
  const destroy = library.bind('nvrtcDestroyProgram', [P]);
  const version = new Int32Array(2);
  versionOf(version, version.subarray(1));
  const description = `NVRTC ${version.join('.')}`;

  const build = (request: CompileRequest): Uint8Array => {
    const program = new BigUint64Array(1);
    const length = new BigUint64Array(1);
    const [names, texts] = [Object.keys(request.headers), Object.values(request.headers)];
    create(program, request.source, request.name, names.length, texts, names);
    const handle = program[0] ?? 0n;
    const options = compileOptions(request);
    const code = exitOnSignals(() => compileProgram(handle, options.length, options));
    if (code !== 0) {
      logSize(handle, length);
      const text = Buffer.alloc(Number(length[0]));
      log(handle, text);
      throw new RunError(
        `kernel ${request.name} did not compile (NVRTC ${code}): ${text.toString().replaceAll('\0', '').trim().slice(0, 2000)}`,
      );
    }
    size(handle, length);
    const binary = new Uint8Array(Number(length[0]));
    image(handle, binary);
    destroy(program);
    return binary;
  };

  const folder = cacheFolder('cuda');
  return {
    description,
    compile(request) {
      const path = join(folder, `${cacheKey(request, description)}.cubin`);
      try {
        return readFileSync(path);
      } catch {
        const binary = build(request);
        store(folder, path, binary);
        return binary;
      }
    },
  };
}

/** A cache that cannot be written costs time, not correctness. */
function store(folder: string, path: string, binary: Uint8Array): void {
  try {
    makeDirectory(folder);
    const temporary = `${path}.${process.pid}`;
    writeFileSync(temporary, binary);
    renameSync(temporary, path);
  } catch {
    return;
  }
}
