/**
 * Threads that share the tasks of a kernel. The calling thread works too and returns when all tasks are done; the others sleep
 * between calls. Which thread runs a task decides nothing, so results do not depend on how many there are.
 */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { PAGE_BYTES, type SharedArena } from './arena.js';
import type { AttentionKernel } from './kernels.js';
import { TASK, type Task } from './kernel.js';
import { type Module, WebAssembly } from './webassembly.js';

/**
 * Words at the beginning of the memory. `next` and `count` hold the number of the call in their upper half, so that a thread that comes
 * late does not take its index for one of the next call.
 */
const WORDS = { wake: 0, next: 1, count: 2, finished: 3, tasks: 4 } as const;
const CONTROL_WORDS = 16;
const INDEX_BITS = 16;
const CALLS = 2 ** (31 - INDEX_BITS);

/** Words of a task in memory: those of `TASK`, then the number of its kernel. */
const TASK_WORDS = TASK.length + 1;
export const TASK_BYTES = 4 * TASK_WORDS;

/** Bytes of scratch memory of a thread, enough for every kernel. */
const SCRATCH_BYTES = PAGE_BYTES;

/** Fewer tasks are done before another thread is awake. */
const FEWEST_SHARED = 3;

/** How often the calling thread looks whether the others have finished before it sleeps. */
const LOOKS = 2000;

/** A thread of the team, in JavaScript as it stands: a file of its own would need another loader in development. */
const WORKER = `
  const { receiveMessageOnPort, workerData } = require('node:worker_threads');
  const { memory, port, scratch } = workerData;
  const control = new Int32Array(memory.buffer, 0, ${CONTROL_WORDS});
  const kernels = [];
  const learn = () => {
    for (let got; (got = receiveMessageOnPort(port)); )
      kernels.push(new WebAssembly.Instance(got.message, { env: { memory } }).exports.run);
  };
  for (let seen = 0; ; ) {
    Atomics.wait(control, ${WORDS.wake}, seen);
    seen = Atomics.load(control, ${WORDS.wake});
    learn();
    for (;;) {
      const ticket = Atomics.add(control, ${WORDS.next}, 1);
      const count = Atomics.load(control, ${WORDS.count});
      if (ticket >> ${INDEX_BITS} !== count >> ${INDEX_BITS} || ticket >= count) break;
      const index = ticket & ${2 ** INDEX_BITS - 1};
      const task = control[${WORDS.tasks}] + index * ${TASK_BYTES};
      const kernel = new Int32Array(memory.buffer, task, ${TASK_WORDS})[${TASK.length}];
      if (kernel >= kernels.length) learn();
      kernels[kernel](task, scratch);
      Atomics.add(control, ${WORDS.finished}, 1);
      Atomics.notify(control, ${WORDS.finished});
    }
  }
`;

export class Team {
  private readonly control: Int32Array;
  private readonly scratch: number;
  private readonly kernels = new Map<AttentionKernel, (task: number, scratch: number) => void>();
  private readonly modules: Module[] = [];
  private readonly ports: MessagePort[] = [];
  private call = 0;

  /** @param threads of the team, the calling one included; the others start when there is work to share */
  constructor(
    private readonly arena: SharedArena,
    private readonly threads: number,
  ) {
    this.control = new Int32Array(arena.memory.buffer, 0, CONTROL_WORDS);
    this.scratch = this.takeScratch();
  }

  /**
   * Runs tasks, of which there may be 65,535.
   * @param tasksAt address of `TASK_BYTES` for each
   */
  run(kernel: AttentionKernel, tasks: readonly Task[], tasksAt: number): void {
    const { control } = this;
    const run = this.instanceOf(kernel);
    const number = [...this.kernels.keys()].indexOf(kernel);
    const words = new Int32Array(this.arena.memory.buffer, tasksAt, tasks.length * TASK_WORDS);
    for (const [i, task] of tasks.entries())
      words.set([...TASK.map((name) => task[name]), number], i * TASK_WORDS);
    if (this.threads === 1 || tasks.length < FEWEST_SHARED) {
      for (let i = 0; i < tasks.length; i++) run(tasksAt + TASK_BYTES * i, this.scratch);
      return;
    }
    this.start();
    this.call = (this.call + 1) % CALLS;
    const first = this.call << INDEX_BITS;
    const end = first + tasks.length;
    Atomics.store(control, WORDS.tasks, tasksAt);
    Atomics.store(control, WORDS.finished, 0);
    Atomics.store(control, WORDS.count, end);
    Atomics.store(control, WORDS.next, first);
    Atomics.add(control, WORDS.wake, 1);
    Atomics.notify(control, WORDS.wake);
    for (let ticket = first; (ticket = Atomics.add(control, WORDS.next, 1)) < end;) {
      run(tasksAt + TASK_BYTES * (ticket - first), this.scratch);
      Atomics.add(control, WORDS.finished, 1);
    }
    this.await(tasks.length);
  }

  private await(count: number): void {
    const { control } = this;
    for (let looks = 0; ; looks++) {
      const finished = Atomics.load(control, WORDS.finished);
      if (finished === count) return;
      if (looks > LOOKS) Atomics.wait(control, WORDS.finished, finished);
    }
  }

  private instanceOf(kernel: AttentionKernel): (task: number, scratch: number) => void {
    const known = this.kernels.get(kernel);
    if (known) return known;
    if (kernel.scratchBytes > SCRATCH_BYTES) throw new RangeError('the kernel needs more memory of its own');
    const { memory } = this.arena;
    const { run } = new WebAssembly.Instance(kernel.module, { env: { memory } }).exports;
    const made = run as (task: number, scratch: number) => void;
    this.kernels.set(kernel, made);
    this.modules.push(kernel.module);
    for (const port of this.ports) port.postMessage(kernel.module);
    return made;
  }

  private start(): void {
    while (this.ports.length < this.threads - 1) {
      const { port1, port2 } = new MessageChannel();
      const workerData = { memory: this.arena.memory, port: port2, scratch: this.takeScratch() };
      // Not with this process' own options: they may be of a loader.
      const worker = new Worker(WORKER, { eval: true, execArgv: [], workerData, transferList: [port2] });
      // A thread that cannot start leaves its tasks to the others.
      worker.on('error', () => undefined);
      worker.unref();
      port1.unref();
      for (const module of this.modules) port1.postMessage(module);
      this.ports.push(port1);
    }
  }

  private takeScratch(): number {
    const at = this.arena.take(SCRATCH_BYTES);
    if (at === undefined) throw new RangeError('there is no room for the memory of a thread');
    return at;
  }
}
