/** The reference of a command as a page of Markdown, made from what oclif knows of it. */
import type { Command } from '@oclif/core';

type Flag = Command.Flag.Cached;

/** Plain text in Markdown and in a cell of a table. */
const plain = (text: string): string =>
  text.replace(/[\\<>*_[\]{}|~]/g, (character) => `\\${character}`).replace(/\s+/g, ' ');

const code = (text: string): string => `\`${text.replaceAll('|', '\\|')}\``;

/** `--batch N`, with its short form and its negation. */
function flagNames(flag: Flag): string[] {
  const value = flag.type === 'option' ? ` ${valueName(flag)}` : '';
  const names = [`--${flag.name}${value}`];
  if (flag.char !== undefined) names.unshift(`-${flag.char}${value}`);
  if (flag.type === 'boolean' && flag.allowNo) names.push(`--no-${flag.name}`);
  return names;
}

function valueName(flag: Flag): string {
  if (flag.type !== 'option') return '';
  const { helpValue, options } = flag;
  if (helpValue !== undefined) return [helpValue].flat().join(' ');
  return options === undefined ? 'VALUE' : options.join('|');
}

function defaultOf(flag: Flag): string {
  const value: unknown = flag.default;
  const isText = typeof value === 'string' || typeof value === 'number';
  if (flag.required) return 'required';
  return isText ? code(String(value)) : '';
}

/** Notes after each other, divided by full stops where there is more than one. */
const sentences = (notes: readonly string[]): string =>
  notes
    .filter((note) => note !== '')
    .map((note, index, all) => (index < all.length - 1 && !note.endsWith('.') ? `${note}.` : note))
    .join(' ');

function flagRow(flag: Flag): string {
  const notes = [
    plain(flag.description ?? flag.summary ?? ''),
    ...(flag.type === 'option' && flag.options ? [`One of ${flag.options.map(code).join(', ')}.`] : []),
    ...(flag.type === 'option' && flag.env ? [`Environment variable ${code(flag.env)}.`] : []),
    ...(flag.dependsOn?.length
      ? [`Only with ${flag.dependsOn.map((name) => code(`--${name}`)).join(', ')}.`]
      : []),
    ...(flag.exclusive?.length
      ? [`Not with ${flag.exclusive.map((name) => code(`--${name}`)).join(', ')}.`]
      : []),
  ];
  return `| ${flagNames(flag).map(code).join(', ')} | ${sentences(notes)} | ${defaultOf(flag)} |`;
}

const shownFlags = (command: Command.Loadable): Flag[] =>
  Object.values(command.flags).filter(({ hidden }) => hidden !== true);

/** A table for each group of the help text, those of the command itself first. */
function flagTables(command: Command.Loadable): string[] {
  const flags = shownFlags(command);
  const groups = [...new Set(flags.map(({ helpGroup }) => helpGroup ?? ''))];
  const head = '| flag | what it does | default |\n| --- | --- | --- |';
  return groups
    .sort((a, b) => Number(a !== '') - Number(b !== ''))
    .flatMap((group) => {
      const rows = flags.filter(({ helpGroup }) => (helpGroup ?? '') === group).map(flagRow);
      const title = group === '' ? '## Flags' : `## ${group[0] ?? ''}${group.slice(1).toLowerCase()}`;
      return [title, `${head}\n${rows.join('\n')}`];
    });
}

function examplesOf(program: string, { id, examples = [] }: Command.Loadable): string[] {
  const fill = (text: string): string =>
    text.replaceAll('<%= config.bin %>', program).replaceAll('<%= command.id %>', id);
  const lines = examples.flatMap((example) => {
    if (typeof example === 'string') return [fill(example)];
    return [`# ${example.description}`, fill(example.command)];
  });
  return lines.length === 0 ? [] : ['## Examples', `\`\`\`sh\n${lines.join('\n')}\n\`\`\``];
}

/** @param program what a person types before the command: `yoco` */
export function commandPage(program: string, command: Command.Loadable): string {
  const shown = Object.values(command.args).filter(({ hidden }) => hidden !== true);
  const words = shown.map(({ name, required }) =>
    required ? name.toUpperCase() : `[${name.toUpperCase()}]`,
  );
  const more = command.strict === false && shown.length > 0 ? ['...'] : [];
  const descriptions = shown.map(({ name, description, options }) => {
    const values = options?.length ? ` One of ${options.map(code).join(', ')}.` : '';
    return `- ${code(name.toUpperCase())}: ${plain(description ?? '')}${values}`;
  });
  return `${[
    `# ${program} ${command.id}`,
    plain(command.summary ?? ''),
    ...(command.description === undefined ? [] : [plain(command.description)]),
    `\`\`\`sh\n${[program, command.id, ...words, ...more, '[FLAGS]'].join(' ')}\n\`\`\``,
    ...(descriptions.length === 0 ? [] : [descriptions.join('\n')]),
    ...flagTables(command),
    ...examplesOf(program, command),
  ].join('\n\n')}\n`;
}

/** The list of all commands, each with a link to its page. */
export function commandIndex(program: string, commands: readonly Command.Loadable[]): string {
  const rows = commands.map(({ id, summary = '' }) => `| [${code(id)}](${id}.md) | ${plain(summary)} |`);
  return `# Reference of the commands\n\nMade from the flags of ${code(program)}.\n\n| command | what it does |\n| --- | --- |\n${rows.join('\n')}\n`;
}
