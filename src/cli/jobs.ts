/** Steps of an experiment side by side: each a process of its own, on a GPU of its own where there are several. */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { selfCommand } from './self.js';

export interface Job {
  /** Words of a command: `['train', '--preset', 'pico']`. */
  readonly words: readonly string[];
}

export interface JobResult {
  /** Exit status; 128 + N where signal N ended it. */
  readonly status: number;
  /** The end of what it wrote to stderr. */
  readonly stderr: string;
  /** What it wrote to stdout. */
  readonly stdout: string;
}

const TAIL_CHARACTERS = 4000;
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs all jobs, at most `atOnce` at a time, in their order. Signals go to those that run, and no other is started.
 * @param onEnd called with the place of each job when it has ended
 * @returns the last signal; null where there was none
 */
export async function runJobs(
  jobs: readonly Job[],
  atOnce: number,
  onStart: (index: number) => void,
  onEnd: (index: number, result: JobResult) => void,
): Promise<NodeJS.Signals | null> {
  const gpus = visibleGpus();
  const running = new Set<ReturnType<typeof spawn>>();
  let next = 0;
  let stopped: NodeJS.Signals | null = null;
  const stop = (signal: NodeJS.Signals): void => {
    stopped = signal;
    for (const child of running) child.kill(signal);
  };
  for (const name of FORWARDED) process.on(name, stop);
  const worker = async (slot: number): Promise<void> => {
    for (let index = next++; index < jobs.length && stopped === null; index = next++) {
      onStart(index);
      onEnd(index, await runJob(jobs[index] as Job, gpus[slot % gpus.length] ?? null, running));
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(atOnce, jobs.length) }, (_, slot) => worker(slot)));
  } finally {
    for (const name of FORWARDED) process.off(name, stop);
  }
  return stopped;
}

function runJob(
  { words }: Job,
  gpu: string | null,
  running: Set<ReturnType<typeof spawn>>,
): Promise<JobResult> {
  const [program, ...args] = selfCommand();
  const env = gpu === null ? process.env : { ...process.env, CUDA_VISIBLE_DEVICES: gpu };
  // In a process group of its own: the terminal's Ctrl-C reaches it once, through us. The second would end it at once.
  const child = spawn(program, [...args, ...words], {
    ...{ env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] },
  });
  running.add(child);
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-TAIL_CHARACTERS);
  });
  return new Promise((resolve) => {
    const end = (status: number): void => {
      running.delete(child);
      resolve({ status, stdout, stderr });
    };
    child.once('error', (error) => {
      stderr += error.message;
      end(1);
    });
    child.once('close', (code, signal) => {
      end(code ?? (signal === null ? 1 : 128 + constants.signals[signal]));
    });
  });
}

/**
 * The GPUs that jobs may take, as CUDA_VISIBLE_DEVICES names them (numbers or UUIDs); empty where there is nothing to choose.
 * @param present how many the machine has
 */
export function visibleGpus(
  visible = process.env.CUDA_VISIBLE_DEVICES,
  present: () => number = gpuCount,
): string[] {
  const all =
    visible === undefined
      ? Array.from({ length: present() }, (_, gpu) => String(gpu))
      : visible.split(',').map((id) => id.trim());
  // CUDA sees none of what follows a name that it does not know, such as -1.
  const unknown = all.findIndex((id) => id === '' || id.startsWith('-'));
  const usable = unknown < 0 ? all : all.slice(0, unknown);
  return usable.length > 1 ? usable : [];
}

function gpuCount(): number {
  try {
    return readdirSync('/dev').filter((name) => /^nvidia\d+$/.test(name)).length;
  } catch {
    return 0;
  }
}
