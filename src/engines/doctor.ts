/** What this machine has for the toolkit, what it lacks, and what to do about it. */
import { existsSync, lstatSync, readdirSync, statfsSync } from 'node:fs';
import { freemem } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { YocoError } from '../errors.js';
import { cacheFolder } from '../files/cache.js';
import { hubSettings } from '../hub/settings.js';
import { packageDirectory } from '../package-root.js';
import { formatBytes } from '../results/display.js';
import { machine, neutralPath, versions } from '../results/provenance.js';
import { KERNELS_IN_C } from './cpu/index.js';
import { isAutomatic, probeEngines, type EngineProbe } from './start.js';

/** `ok`: there; `absent`: not there, and not needed; `problem`: something to fix. */
export type FindingStatus = 'ok' | 'absent' | 'problem';

export interface Finding {
  readonly topic: 'engine' | 'version' | 'machine' | 'disk' | 'cache' | 'hub';
  readonly name: string;
  readonly status: FindingStatus;
  /** What was found; of what is absent, why, and what to install. */
  readonly value: string;
}

export interface Diagnosis {
  readonly findings: readonly Finding[];
  /** The engine that `--engine auto` takes; null where none works. */
  readonly defaultEngine: EngineProbe | null;
}

/** Needed of a disk before a person is warned. */
const LITTLE_DISK_BYTES = 2e9;

/** Starts every engine, and looks at versions, memory, disk and caches. Opens no connection. */
export async function diagnose(): Promise<Diagnosis> {
  const probes = await probeEngines();
  const defaultEngine = probes.find(isAutomatic) ?? null;
  const findings = [
    ...probes.map((probe) => engineFinding(probe, probe === defaultEngine)),
    ...(await versionFindings()),
    ...machineFindings(),
    ...diskFindings(),
    ...(['cuda', 'data', 'tokens'] as const).map((kind) => cacheFinding(kind, cacheFolder(kind))),
    ...hubFindings(),
  ];
  return { findings, defaultEngine };
}

function engineFinding({ name, description, device, problem }: EngineProbe, isDefault: boolean): Finding {
  if (description === null) {
    const status = name === 'cpu' ? 'problem' : 'absent';
    return { topic: 'engine', name, status, value: problem ?? '' };
  }
  const isSlow = name === 'cpu' && packageDirectory('onnxruntime-node') === null;
  const noRuntime = isSlow ? 'ONNX Runtime is not installed, npm rebuild yoco installs it' : null;
  const advice = [noRuntime, name === 'cpu' && !isSlow ? noKernels(description) : null, problem]
    .map((reason) => (reason === null ? '' : `; slow: ${reason.replace(`${name}: `, '')}`))
    .join('');
  const value = `${description} on ${device ?? ''}${isDefault ? ' (the default)' : ''}${advice}`;
  return { topic: 'engine', name, status: isSlow ? 'problem' : 'ok', value };
}

/** Why the cpu engine has no kernels in C, if nobody turned them off. */
function noKernels(description: string): string | null {
  if (process.env.YOCO_NATIVE === 'off' || description.includes(KERNELS_IN_C)) return null;
  return 'no kernels in C that this processor and system load; where a C compiler is, node runtime/install.js in the package makes them';
}

async function versionFindings(): Promise<Finding[]> {
  // They load libraries, which nothing else that imports this file needs.
  const { ncclVersion } = await import('./cuda/nccl-library.js');
  const { mpiVersion } = await import('../distributed/mpi-library.js');
  const found = Object.entries(versions()).map(([name, value]): Finding => ({
    topic: 'version',
    name,
    status: 'ok',
    value,
  }));
  const library = (name: string, known: { version: string } | { problem: string }): Finding =>
    'version' in known
      ? { topic: 'version', name, status: 'ok', value: known.version }
      : { topic: 'version', name, status: 'absent', value: known.problem };
  return [...found, library('NCCL', ncclVersion()), library('MPI', mpiVersion())];
}

function machineFindings(): Finding[] {
  const { cpu, cores, instructions, memoryBytes, system } = machine();
  const available = Math.min(process.availableMemory(), memoryBytes);
  const rows = {
    processor: `${cpu}, ${cores} cores`,
    instructions: instructions.join(' ') || 'not known',
    memory: `${formatBytes(memoryBytes)}, ${formatBytes(available || freemem())} available`,
    system,
  };
  return Object.entries(rows).map(([name, value]) => ({ topic: 'machine', name, status: 'ok', value }));
}

/** The folder, or the nearest above it that exists. */
function existing(folder: string): string {
  const path = resolve(folder);
  return existsSync(path) ? path : existing(dirname(path));
}

function diskFindings(): Finding[] {
  const folders = { here: process.cwd(), caches: cacheFolder('tokens') };
  return Object.entries(folders).map(([name, folder]): Finding => {
    const { bavail, bsize } = statfsSync(existing(folder));
    const free = bavail * bsize;
    const isLittle = free < LITTLE_DISK_BYTES;
    const value = `${formatBytes(free)} free in ${neutralPath(existing(folder))}`;
    return {
      topic: 'disk',
      name,
      status: isLittle ? 'problem' : 'ok',
      value: isLittle ? `${value}: free some` : value,
    };
  });
}

function cacheFinding(name: string, folder: string): Finding {
  if (!existsSync(folder)) {
    return { topic: 'cache', name, status: 'absent', value: `${neutralPath(folder)}: empty` };
  }
  return {
    topic: 'cache',
    name,
    status: 'ok',
    value: `${neutralPath(folder)}: ${formatBytes(sizeOf(folder))}`,
  };
}

/** Bytes of the files below a folder; links count once, as what they lead to. */
function sizeOf(folder: string): number {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return names.reduce((sum, name) => {
    const stat = lstatSync(join(folder, name), { throwIfNoEntry: false });
    return sum + (stat?.isFile() === true ? stat.size : 0);
  }, 0);
}

function hubFindings(): Finding[] {
  try {
    const { endpoint, token, offline, cache } = hubSettings();
    const access = token === null ? 'no token' : `token from ${neutralPath(token.from)}`;
    const value = `${endpoint}, ${access}${offline ? ', offline' : ''}`;
    return [cacheFinding('hub', cache), { topic: 'hub', name: 'hub', status: 'ok', value }];
  } catch (error) {
    if (!(error instanceof YocoError)) throw error;
    return [{ topic: 'hub', name: 'hub', status: 'problem', value: error.message }];
  }
}
