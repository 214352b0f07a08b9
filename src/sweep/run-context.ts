/** How a run that takes long is recorded and observed: the library knows no terminal. */

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

export interface RunContext {
  /** As typed, for the record: `['needle', '--ctx', '4k']`. */
  command: readonly string[];
  flags: Readonly<Record<string, unknown>>;
  /** Where results go. */
  directory: string;
  progress(options: ProgressOptions): Progress;
  /** A remark for the person who waits. */
  note: (line: string) => void;
  /** What only a person who asks for it wants to read. */
  detail?: (line: string) => void;
}
