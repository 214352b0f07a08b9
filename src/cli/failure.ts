import { closest, distance } from 'fastest-levenshtein';
import { asYocoError } from '../errors.js';
import { escapeControls, printable } from '../printable.js';

/** One line for stderr (empty: say nothing) and the exit status. */
export interface Failure {
  message: string;
  exitCode: number;
}

/** An argument or a flag of a command, as oclif knows it. */
interface Described {
  readonly name: string;
  readonly description?: string;
  readonly options?: readonly string[];
}

/** What oclif throws; what of it there is depends on what is wrong. */
interface OclifError extends Error {
  oclif?: { exit?: number };
  code?: string;
  /** Arguments that are missing. */
  args?: readonly Described[];
  /** Flags that the command does not have, with their dashes. */
  flags?: readonly string[];
  parse?: { readonly input?: { readonly flags?: Readonly<Record<string, Described>> } };
}

const describeMissing = (shown: string, { description, options }: Omit<Described, 'name'> = {}): string =>
  `${shown} is missing${description ? `: ${description}` : ''}${options ? ` (${options.join('|')})` : ''}`;

/** oclif's parse errors are several lines and end in a hint; ours are one line. */
function describeParseError({ message, args, flags, parse }: OclifError): string {
  const known = parse?.input?.flags ?? {};
  if (/^Missing \d+ required arg/.test(message) && args)
    return printable(args.map((arg) => describeMissing(arg.name.toUpperCase(), arg)).join('; '));
  if (message.startsWith('Nonexistent flag') && flags) {
    const names = Object.keys(known).map((name) => `--${name}`);
    const unknown = flags.map((flag) => `no flag ${printable(flag, 100)}${likeliest(flag, names)}`);
    return `${unknown.join('; ')}; --help lists the flags`;
  }
  return printable(
    message
      .replace(/\n?See more help with --help/g, '')
      .replace(/Parsing --(\S+)\s+/g, '--$1: ')
      .replace(/The following errors? occurred:/g, '')
      // Two flags that exclude each other are reported once by each of them.
      .replace(
        /--(\S+?)=[^\n]* cannot also be provided when using (--\S+)[^]*/,
        '--$1 cannot be given with $2',
      )
      .replace(/Missing required flag (\S+)/g, (_, name: string) => describeMissing(`--${name}`, known[name]))
      .replace(/All of the following must be provided when using (--[^\s:]+): ([^\n]*)/g, '$1 needs $2')
      // A flag's own error may begin with its name.
      .replace(/(--\S+): \1 /g, '$1 '),
  );
}

/** `: did you mean train?` where a command is spelled nearly like it. */
function likeliest(name: string, commandIds: readonly string[]): string {
  if (commandIds.length === 0) return '';
  const near = closest(name, commandIds);
  return distance(name, near) <= Math.max(2, near.length / 3) ? ` (did you mean '${near}'?)` : '';
}

/**
 * The line and the exit status for anything a command has thrown. Unexpected errors (ours, that is) keep their stack.
 */
export function describeFailure(error: unknown, commandIds: readonly string[]): Failure {
  const known = asYocoError(error);
  if (known !== null) {
    const line = error === known ? describeParseError(known) : printable(known.message);
    return { message: `yoco: ${line}`, exitCode: known.exitCode };
  }
  if (!(error instanceof Error)) return { message: `yoco: ${printable(String(error))}`, exitCode: 1 };
  const { oclif, code } = error as OclifError;
  if (code === 'EEXIT') return { message: '', exitCode: oclif?.exit ?? 0 };
  const unknown = /^command (.+) not found\.?$/is.exec(error.message)?.[1];
  if (unknown !== undefined) {
    const name = printable(unknown, 100);
    return {
      message: `yoco: no command '${name}'${likeliest(name, commandIds)}; the commands are ${commandIds.join(', ')}`,
      exitCode: 2,
    };
  }
  if (oclif) return { message: `yoco: ${describeParseError(error)}`, exitCode: 2 };
  const stack = (error.stack ?? error.message).slice(0, 10_000).split('\n').map(escapeControls).join('\n');
  return { message: `yoco: unexpected error\n${stack}`, exitCode: 1 };
}
