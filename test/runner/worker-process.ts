/** The parent's side of `worker.ts`. */
import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** What came of a test file. */
export interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Numbers of skipped tests by reason. */
  readonly reasons: readonly (readonly [reason: string, count: number])[];
}

/** With what the file printed. */
export interface Report extends Outcome {
  readonly output: string;
}

const PROGRAM = fileURLToPath(new URL('worker.ts', import.meta.url));

export class WorkerProcess {
  private readonly child: ChildProcess;
  private output = '';

  /** @param root directory of the test files */
  constructor(root: string) {
    this.child = fork(PROGRAM, [root], { stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => (this.output += text));
    }
  }

  /** Whether the process still takes files. */
  get isAlive(): boolean {
    return this.child.connected && this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Runs a file. A process that ends in the midst of it has failed one test. */
  async run(file: string): Promise<Report> {
    this.output = '';
    const outcome = await new Promise<Outcome>((resolve) => {
      const onMessage = (outcome: Outcome): void => {
        this.child.off('close', onClose);
        // The pipes are read in the same turn as the message.
        setImmediate(resolve, outcome);
      };
      const onClose = (code: number | null, signal: string | null): void => {
        this.child.off('message', onMessage);
        const how = signal === null ? `with exit status ${String(code)}` : `by ${signal}`;
        this.output += `\n  the process of ${file} ended ${how} before its tests did\n`;
        resolve({ passed: 0, failed: 1, skipped: 0, reasons: [] });
      };
      this.child.once('message', onMessage).once('close', onClose);
      this.child.send(file);
    });
    return { ...outcome, output: this.output };
  }

  end(): void {
    if (this.child.connected) this.child.disconnect();
  }
}
