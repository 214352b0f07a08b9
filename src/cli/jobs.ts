/** Steps of an experiment side by side: each a process of its own, on a GPU of its own where there are several. */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
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

/**
 * Runs all jobs, at most `atOnce` at a time, in their order. Signals end those that run, and no other is started.
 * @param onEnd called with the place of each job when it has ended
 */
export async function runJobs(
  jobs: readonly Job[],
  atOnce: number,
  onStart: (index: number) => void,
  onEnd: (index: number, result: JobResult) => void,
): Promise<void> {
  const gpus = gpuCount();
  const running = new Set<ReturnType<typeof spawn>>();
  let next = 0;
  let stopped: NodeJS.Signals | null = null;
  const stop = (signal: NodeJS.Signals): void => {
    stopped = signal;
    for (const child of running) child.kill(signal);
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  const worker = async (slot: number): Promise<void> => {
    for (let index = next++; index < jobs.length && stopped === null; index = next++) {
      onStart(index);
      onEnd(index, await runJob(jobs[index] as Job, gpus > 1 ? slot % gpus : null, running));
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(atOnce, jobs.length) }, (_, slot) => worker(slot)));
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}

function runJob(
  { words }: Job,
  gpu: number | null,
  running: Set<ReturnType<typeof spawn>>,
): Promise<JobResult> {
  const [program, ...args] = selfCommand();
  const env = gpu === null ? process.env : { ...process.env, CUDA_VISIBLE_DEVICES: String(gpu) };
  const child = spawn(program, [...args, ...words], { env, stdio: ['ignore', 'pipe', 'pipe'] });
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
      end(code ?? (signal === null ? 1 : 128 + (signal === 'SIGINT' ? 2 : 15)));
    });
  });
}

/** GPUs of this machine that the process may use. */
function gpuCount(): number {
  const visible = process.env.CUDA_VISIBLE_DEVICES;
  if (visible !== undefined) return visible.split(',').filter((id) => id !== '').length;
  try {
    return readdirSync('/dev').filter((name) => /^nvidia\d+$/.test(name)).length;
  } catch {
    return 0;
  }
}
