/** Hands out test files to several processes. */

/** Files of one group use the same device, all processors or the same directory: never two of them at once. */
const GROUPS: readonly RegExp[] = [/cuda/, /^distributed\//, /package/];

/** Files that take long, the longest first: a process that begins one of them last would keep the others waiting. */
const LONG: readonly string[] = [
  'engines/cuda/sources.test.ts',
  'distributed/sequence.test.ts',
  'ops/kernels/cpu.test.ts',
  'ops/kernels/webgpu.test.ts',
  'engines/cuda/emulator.test.ts',
  'model/model.test.ts',
  'distributed/training.test.ts',
  'distributed/profiles.test.ts',
  'model/conformance.test.ts',
  'commands/reproduce.test.ts',
  'robustness/robustness.test.ts',
  'training/resume.test.ts',
  'distributed/decoding.test.ts',
  'distributed/mpi.test.ts',
  'engines/cpu/models.test.ts',
  'engines/cpu/coded-attention.test.ts',
  'library/package.test.ts',
  'process/nothing-sent.test.ts',
];

const groupOf = (file: string): RegExp | null => GROUPS.find((group) => group.test(file)) ?? null;

const rank = (file: string): number => {
  const place = LONG.indexOf(file);
  return place < 0 ? LONG.length : place;
};

export class TestQueue {
  private readonly waiting: string[];
  private readonly busy = new Set<RegExp>();
  private wakers: (() => void)[] = [];

  constructor(files: readonly string[]) {
    this.waiting = [...files].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
  }

  /** The next file, once there is one that may run beside those at work; null when all were handed out. */
  async take(): Promise<string | null> {
    while (this.waiting.length > 0) {
      const index = this.waiting.findIndex((file) => !this.isBlocked(file));
      const [file] = index < 0 ? [] : this.waiting.splice(index, 1);
      if (file !== undefined) {
        const group = groupOf(file);
        if (group) this.busy.add(group);
        return file;
      }
      await new Promise<void>((resolve) => this.wakers.push(resolve));
    }
    return null;
  }

  /** Says that a file has ended. */
  release(file: string): void {
    const group = groupOf(file);
    if (group) this.busy.delete(group);
    for (const wake of this.wakers.splice(0)) wake();
  }

  private isBlocked(file: string): boolean {
    const group = groupOf(file);
    return group !== null && this.busy.has(group);
  }
}
