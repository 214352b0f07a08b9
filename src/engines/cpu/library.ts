/**
 * ONNX Runtime's C API, called through koffi: the shared library that comes with `onnxruntime-node`. The package's own
 * binding copies every output into a new array after each run, and gives every session threads of its own.
 *
 * Handles are addresses, which fit into a number; memory is a typed array.
 */
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type koffiModule from 'koffi';
import { packageDirectory, packageRoot } from '../../package-root.js';
import { koffiIsLoaded } from '../exit.js';
import { disableTelemetry, telemetryAllowed } from './telemetry.js';

/** The version of the C API asked for: the first that has all functions below. Later libraries still serve it. */
const API_VERSION = 13;

const HANDLE = 'uint64';
const MEMORY = 'void *';
const STRING = 'const char *';

/**
 * The functions used: their place in `OrtApi` (onnxruntime_c_api.h; new functions are only ever added at its end) and
 * their arguments.
 */
const FUNCTIONS = {
  disableTelemetryEvents: [6, HANDLE],
  createSessionFromArray: [8, HANDLE, MEMORY, 'size_t', HANDLE, MEMORY],
  run: [9, HANDLE, HANDLE, MEMORY, HANDLE, 'size_t', MEMORY, 'size_t', HANDLE],
  createSessionOptions: [10, MEMORY],
  setIntraOpNumThreads: [24, HANDLE, 'int'],
  createTensorWithData: [49, HANDLE, MEMORY, 'size_t', MEMORY, 'size_t', 'int', HANDLE],
  createCpuMemoryInfo: [69, 'int', 'int', MEMORY],
  createEnvWithGlobalThreadPools: [119, 'int', STRING, HANDLE, MEMORY],
  disablePerSessionThreads: [120, HANDLE],
  createThreadingOptions: [121, MEMORY],
  addSessionConfigEntry: [130, HANDLE, STRING, STRING],
  createAndRegisterAllocator: [144, HANDLE, HANDLE, HANDLE],
  setGlobalIntraOpNumThreads: [147, HANDLE, 'int'],
  setGlobalInterOpNumThreads: [148, HANDLE, 'int'],
  setGlobalSpinControl: [149, HANDLE, 'int'],
} as const satisfies Record<string, readonly [number, ...string[]]>;

/** Functions that return a text or nothing. */
const [ERROR_MESSAGE, RELEASE_STATUS, RELEASE_VALUE] = [2, 93, 96];

type Argument = number | bigint | string | NodeJS.TypedArray;
type Checked = Readonly<Record<keyof typeof FUNCTIONS, (...args: readonly Argument[]) => void>>;

/** Every function throws an `Error` with the library's message where it fails. */
export type Api = Checked & {
  readonly releaseValue: (value: bigint) => void;
  /** Where an array lies. */
  readonly address: (array: NodeJS.TypedArray) => bigint;
};

/** Libraries in use. koffi closes one that is collected, and does not see that addresses within it are still called. */
const open: unknown[] = [];

/** @throws the loader's error where koffi or the package has no binary for this platform. */
export function loadApi(): Api {
  const require = createRequire(import.meta.url);
  const koffi = require('koffi') as typeof koffiModule;
  koffiIsLoaded(koffi);
  if (!telemetryAllowed(process.env)) disableTelemetry(koffi);
  const library = koffi.load(libraryPath());
  open.push(library);
  const base = library.func('OrtGetApiBase', MEMORY, [])() as bigint;
  const functionAt = (table: bigint, index: number, result: string, types: readonly string[]): unknown =>
    koffi.decode(koffi.decode(table, 8 * index, MEMORY) as bigint, koffi.proto(result, [...types]));
  const getApi = functionAt(base, 0, MEMORY, ['uint32_t']) as (version: number) => bigint | null;
  const api = getApi(API_VERSION);
  if (api === null) throw new Error(`ONNX Runtime does not have version ${API_VERSION} of its C API`);
  const bind = (index: number, result: string, types: readonly string[]): unknown =>
    functionAt(api, index, result, types);
  const message = bind(ERROR_MESSAGE, STRING, [HANDLE]) as (status: number) => string;
  const releaseStatus = bind(RELEASE_STATUS, 'void', [HANDLE]) as (status: number) => void;
  const checked = Object.entries(FUNCTIONS).map(([name, [index, ...types]]) => {
    const call = bind(index, HANDLE, types) as (...args: readonly Argument[]) => number;
    const checkedCall = (...args: readonly Argument[]): void => {
      const status = call(...args);
      if (status === 0) return;
      const reason = message(status);
      releaseStatus(status);
      throw new Error(`ONNX Runtime: ${reason}`);
    };
    return [name, checkedCall];
  });
  return {
    ...(Object.fromEntries(checked) as Checked),
    releaseValue: bind(RELEASE_VALUE, 'void', [HANDLE]) as (value: bigint) => void,
    address: (array) => koffi.address(array),
  };
}

/**
 * The directory of the package `onnxruntime-node`.
 * @throws Error where it is not installed
 */
export function onnxruntimeDirectory(): string {
  const directory = packageDirectory('onnxruntime-node');
  if (directory !== null) return directory;
  throw new Error(`it is not installed; to install it: node ${join(packageRoot, 'runtime', 'install.js')}`);
}

function libraryPath(): string {
  const root = onnxruntimeDirectory();
  const folder = join(root, 'bin', 'napi-v6', process.platform, process.arch);
  const name = readdirSync(folder).find((file) => /^(lib)?onnxruntime\.(so|dll|.*dylib$)/.test(file));
  if (name === undefined) throw new Error(`${folder} holds no ONNX Runtime library`);
  return join(folder, name);
}

/** The handle that `create` writes into the array it is given. */
export function created(create: (out: BigUint64Array) => void): number {
  const out = new BigUint64Array(1);
  create(out);
  return Number(out[0]);
}
