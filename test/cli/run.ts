/** Runs the command line in this process and catches what it writes. */
import type { Config } from '@oclif/core/config';
import { execute, loadConfig } from '../../src/cli/main.js';

export interface CliResult {
  stdout: string;
  stderr: string;
  exitCode: number;
}

function capture(stream: NodeJS.WriteStream): { text: () => string; release: () => void } {
  const write = stream.write.bind(stream);
  let text = '';
  stream.write = (chunk: string | Uint8Array) => {
    text += typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString();
    return true;
  };
  return {
    text: () => text,
    release: () => {
      stream.write = write;
    },
  };
}

let config: Promise<Config> | undefined;

export async function runCli(...argv: string[]): Promise<CliResult> {
  const loaded = await (config ??= loadConfig({ development: true }));
  const stdout = capture(process.stdout);
  const stderr = capture(process.stderr);
  try {
    const exitCode = await execute(argv, loaded);
    return { stdout: stdout.text(), stderr: stderr.text(), exitCode };
  } finally {
    stdout.release();
    stderr.release();
  }
}
