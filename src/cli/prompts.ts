/** Where the prompts of a command come from: an argument, a file, stdin, or a file of several. */
import { UsageError } from '../errors.js';

/** The flags that name prompts. */
export interface PromptFlags {
  readonly prompts?: string;
  readonly 'prompt-file'?: string;
}

/** The line end at the end of a file ends the file, not the prompt. */
const withoutLineEnd = (text: string): string => text.replace(/\r?\n$/, '');

/**
 * The prompts that were given, at least one.
 * @throws UsageError where there is none, or more than one way names them
 */
export async function readPrompts(argument: string | undefined, flags: PromptFlags): Promise<string[]> {
  const { prompts: file, 'prompt-file': single } = flags;
  if (file === undefined) return [await readPrompt(argument, single)];
  if (argument !== undefined || single !== undefined) {
    throw new UsageError('give one prompt, or several with --prompts, not both');
  }
  const { readText } = await import('../library/text.js');
  const lines = [...readText(file)]
    .join('')
    .split(/\r?\n/)
    .filter((line) => line.trim() !== '');
  if (lines.length === 0) throw new UsageError(`--prompts ${file} holds no prompt: write one a line`);
  return lines;
}

async function readPrompt(argument: string | undefined, file: string | undefined): Promise<string> {
  if (argument !== undefined && file !== undefined) {
    throw new UsageError('give the prompt as an argument or with --prompt-file, not both');
  }
  if (argument !== undefined) return argument;
  const { readText, readStream } = await import('../library/text.js');
  if (file !== undefined) return withoutLineEnd([...readText(file)].join(''));
  if (process.stdin.isTTY) throw new UsageError('no prompt: give a text, --prompt-file FILE, or pipe one in');
  const piped = withoutLineEnd(await readStream(process.stdin));
  if (piped === '')
    throw new UsageError('no prompt: stdin is empty (give "" as the argument to begin a new text)');
  return piped;
}

/** @throws UsageError for a prompt that not every rank can read, or several prompts */
export function requireSharedPrompt(
  argument: string | undefined,
  { prompts, 'prompt-file': file }: PromptFlags,
): void {
  if (prompts !== undefined) {
    throw new UsageError('several prompts (--prompts) are computed by one process: start it once');
  }
  if (argument === undefined && file === undefined) {
    throw new UsageError(
      'several ranks cannot read stdin: give the prompt as an argument or with --prompt-file',
    );
  }
}
