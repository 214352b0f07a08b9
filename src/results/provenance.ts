/** What a run was, for NAME.run.json: enough to run it again and to explain a difference. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { arch, cpus, homedir, platform, release, totalmem } from 'node:os';
import { join, relative } from 'node:path';
import type { Communicator } from '../distributed/communicator.js';
import { hubInputs, type HubInput } from '../hub/repository.js';
import { packageDirectory, packageRoot, toolkitVersion } from '../package-root.js';
import { processorFlags } from '../processor.js';
import type { Json } from './canonical.js';

export interface Provenance {
  /** The command line, arguments as given (paths below the home directory shortened). */
  command: readonly string[];
  versions: Readonly<Record<string, string>>;
  /** Commit of the toolkit; null outside a checkout. */
  git: { commit: string; modified: boolean } | null;
  machine: {
    cpu: string;
    /** What decides the last digits of sums: `avx2`, `avx512f`, … Empty where the system does not tell. */
    instructions: readonly string[];
    cores: number;
    memoryBytes: number;
    system: string;
  };
  engine: {
    name: string;
    description: string;
    device: string;
    storage: string;
    threads: number | null;
    /** How caches store keys and values, where it is not as tensors are stored. */
    cacheType?: string;
    /** In what products with weights are computed, where it is not as tensors are stored. */
    compute?: string;
  } | null;
  /** Of a run on several ranks: how they talk, and the device of each. */
  ranks?: { transport: string; devices: readonly string[] };
  flags: Json;
  /** What the flags came to: model configurations, parameters counted, data read. */
  configuration: Json;
  /** SHA-256 of what was read (corpora, checkpoints), by name. */
  inputs: Readonly<Record<string, string>>;
  /** What was taken from a hub: commits and hashes of files, by the reference (`hf:owner/name`); absent where nothing was. */
  hub?: Readonly<Record<string, readonly HubInput[]>>;
}

/** What a record says of an engine. */
export interface EngineDescription {
  readonly name: string;
  readonly description: string;
  readonly device: string;
  readonly storage: string;
  readonly threads?: number;
  readonly cacheType?: string | null;
  readonly compute?: string | null;
}

export interface RunDescription {
  /** What the command line begins with; default: `['yoco']`. */
  program?: readonly string[];
  /** `['needle', '--ctx', '4k']`. */
  command: readonly string[];
  flags: Readonly<Record<string, unknown>>;
  engine?: EngineDescription;
  /** The ranks of the run, all of which describe it; default: one. */
  communicator?: Communicator;
  configuration?: Json;
  inputs?: Readonly<Record<string, string>>;
}

const LIBRARIES = ['@tensorflow/tfjs', 'onnxruntime-node', 'koffi'] as const;

interface PackageJson {
  version: string;
}

const versionIn = (file: string): string => (JSON.parse(readFileSync(file, 'utf8')) as PackageJson).version;

function libraryVersion(name: string): string | null {
  const directory = packageDirectory(name);
  return directory === null ? null : versionIn(join(directory, 'package.json'));
}

/** Of the toolkit, Node and the libraries that compute. */
export function versions(): Record<string, string> {
  const libraries = LIBRARIES.map((name) => [name, libraryVersion(name)] as const);
  const installed = libraries.filter(
    (entry): entry is [(typeof LIBRARIES)[number], string] => entry[1] !== null,
  );
  return { yoco: toolkitVersion(), node: process.versions.node, ...Object.fromEntries(installed) };
}

function git(...words: string[]): string | null {
  try {
    // Without its optional locks `git status` only reads.
    return execFileSync('git', ['--no-optional-locks', '-C', packageRoot, ...words], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return null;
  }
}

function gitState(): Provenance['git'] {
  const commit = git('rev-parse', 'HEAD');
  if (commit === null) return null;
  return { commit, modified: git('status', '--porcelain', '--untracked-files=no', 'src') !== '' };
}

/** The vector instructions of the processor, from which ONNX Runtime chooses its kernels. */
function vectorInstructions(): string[] {
  return [...processorFlags()].filter((flag) => /^(avx|fma|f16c|amx|sve|asimd|i8mm|bf16)/.test(flag)).sort();
}

/** The processor, the memory and the system. */
export function machine(): Provenance['machine'] {
  const processors = cpus();
  return {
    cpu: processors[0]?.model.trim() ?? 'unknown',
    instructions: vectorInstructions(),
    cores: processors.length,
    memoryBytes: totalmem(),
    system: `${platform()} ${release()} ${arch()}`,
  };
}

/** Paths say where a file is for the project, not in whose home. */
export function neutralPath(text: string): string {
  const cwd = process.cwd();
  if (text === cwd || text.startsWith(`${cwd}/`)) return relative(cwd, text) || '.';
  const home = homedir();
  return home.length > 1 && text.startsWith(`${home}/`) ? `~${text.slice(home.length)}` : text;
}

/** Plain JSON of parsed flags: absent ones left out, paths neutral. */
function plain(value: unknown): Json {
  return JSON.parse(
    JSON.stringify(value, (_name, part: unknown) => (typeof part === 'string' ? neutralPath(part) : part)),
  ) as Json;
}

function describeEngine(engine: EngineDescription): Provenance['engine'] {
  const { name, description, device, storage, threads, cacheType, compute } = engine;
  return {
    ...{ name, description, device, storage, threads: threads ?? null },
    ...(cacheType && { cacheType }),
    ...(compute && { compute }),
  };
}

function describeRanks({ engine, communicator }: RunDescription): Pick<Provenance, 'ranks'> {
  if (communicator === undefined || communicator.size === 1) return {};
  const devices = communicator.gather(engine?.device ?? null).map(String);
  return { ranks: { transport: communicator.description, devices } };
}

/** All texts in a value, at any depth. */
function* textsIn(value: unknown): Generator<string> {
  if (typeof value === 'string') yield value;
  else if (typeof value === 'object' && value !== null)
    for (const part of Object.values(value)) yield* textsIn(part);
}

function hubOf({ command, flags, configuration }: RunDescription): Pick<Provenance, 'hub'> {
  const hub = hubInputs(new Set(textsIn([command, flags, configuration])));
  return Object.keys(hub).length > 0 ? { hub } : {};
}

export function collectProvenance(run: RunDescription): Provenance {
  return {
    command: [...(run.program ?? ['yoco']), ...run.command.map(neutralPath)],
    versions: versions(),
    git: gitState(),
    machine: machine(),
    engine: run.engine ? describeEngine(run.engine) : null,
    ...describeRanks(run),
    flags: plain(run.flags),
    configuration: run.configuration ?? null,
    inputs: run.inputs ?? {},
    ...hubOf(run),
  };
}
