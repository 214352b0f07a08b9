/** Progress of long work on stderr: a bar on a terminal, a plain line every few seconds elsewhere. */
import { printable } from '../printable.js';
import { SingleBar } from 'cli-progress';

export interface ProgressOptions {
  label: string;
  /** What `update` counts to. */
  total: number;
  /** What is counted: `tokens`, `steps`, `cells`. */
  unit: string;
}

export interface Progress {
  /** Sets how much is done. */
  update(done: number): void;
  increment(by?: number): void;
  /** A short remark shown beside the count: the present loss, the cell at work. */
  note(line: string): void;
  stop(): void;
}

interface BarOptions extends ProgressOptions {
  quiet?: boolean;
}

const SECONDS_BETWEEN_LINES = 5;

/** 75 → `1m15s`. */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${String(whole % 60).padStart(2, '0')}s`;
  return `${Math.floor(whole / 3600)}h${String(Math.floor((whole % 3600) / 60)).padStart(2, '0')}m`;
}

const count = (value: number): string => Math.floor(value).toLocaleString('en-US');

function remaining(done: number, total: number, elapsed: number): string {
  if (done <= 0 || done >= total || elapsed < 1) return '';
  return `, ${formatDuration((elapsed * (total - done)) / done)} left`;
}

abstract class Reporter implements Progress {
  protected done = 0;
  protected remark = '';
  protected readonly started = performance.now();

  constructor(protected readonly options: BarOptions) {}

  update(done: number): void {
    this.done = Math.min(done, this.options.total);
    this.show();
  }

  increment(by = 1): void {
    this.update(this.done + by);
  }

  note(line: string): void {
    this.remark = printable(line, 200);
    this.show();
  }

  protected elapsed(): number {
    return (performance.now() - this.started) / 1000;
  }

  protected status(): string {
    const { total, unit } = this.options;
    const left = remaining(this.done, total, this.elapsed());
    return `${count(this.done)}/${count(total)} ${unit}${left}${this.remark ? `  ${this.remark}` : ''}`;
  }

  protected abstract show(): void;
  abstract stop(): void;
}

class Bar extends Reporter {
  private readonly bar: SingleBar;

  constructor(options: BarOptions) {
    super(options);
    this.bar = new SingleBar({
      format: `${options.label} {bar} {percentage}%  {status}`,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      barsize: 24,
      stream: process.stderr,
      hideCursor: false,
      clearOnComplete: true,
      // Work is synchronous for seconds at a time, so the bar's own timer would seldom fire.
      fps: 10,
      synchronousUpdate: true,
    });
    this.bar.start(options.total, 0, { status: this.status() });
  }

  protected show(): void {
    this.bar.update(this.done, { status: this.status() });
  }

  stop(): void {
    this.bar.stop();
  }
}

class Lines extends Reporter {
  private shownAt = -Infinity;
  private shown = '';

  protected show(): void {
    const now = this.elapsed();
    if (now - this.shownAt < SECONDS_BETWEEN_LINES) return;
    this.shownAt = now;
    this.print();
  }

  stop(): void {
    this.print();
  }

  private print(): void {
    const status = this.status();
    if (status === this.shown) return;
    this.shown = status;
    process.stderr.write(`${this.options.label}: ${status}, ${formatDuration(this.elapsed())}\n`);
  }
}

class Silent extends Reporter {
  protected show(): void {}

  stop(): void {}
}

export function createProgress(options: BarOptions): Progress {
  if (options.quiet || options.total <= 0) return new Silent(options);
  return process.stderr.isTTY ? new Bar(options) : new Lines(options);
}
