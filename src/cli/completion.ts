/** Scripts by which shells complete commands, flags and the values of flags. They hold the words: no program is started. */
import type { Command } from '@oclif/core';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** What a script knows of a flag. */
interface FlagWords {
  readonly name: string;
  readonly char?: string;
  readonly takesValue: boolean;
  /** Empty where any value may stand: then the shell completes names of files. */
  readonly values: readonly string[];
  readonly description: string;
}

function flagsOf(command: Command.Loadable): FlagWords[] {
  return Object.values(command.flags).flatMap((flag) => {
    const values = flag.type === 'option' ? (flag.options ?? []) : [];
    const description = firstWords(flag.description ?? '');
    const { name, char } = flag;
    const words: FlagWords = { name, char, values, description, takesValue: flag.type === 'option' };
    const isNegated = flag.type === 'boolean' && flag.allowNo;
    return isNegated ? [words, { ...words, name: `no-${name}`, char: undefined }] : [words];
  });
}

/** The first clause of a description, without what a shell might take for its own. */
const firstWords = (text: string): string =>
  (/^[^;:(]*/.exec(text)?.[0] ?? '').replace(/[^\w ,.-]/g, '').trim();

/** @returns the script, to be read by the shell when it starts */
export function completionScript(
  shell: Shell,
  program: string,
  commands: readonly Command.Loadable[],
): string {
  const sorted = [...commands].sort((a, b) => (a.id < b.id ? -1 : 1));
  if (shell === 'fish') return fishScript(program, sorted);
  // zsh reads what is written for bash.
  const zsh = 'autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n';
  return (shell === 'zsh' ? zsh : '') + bashScript(program, sorted);
}

/** The words that the arguments of a command may be. */
const argumentWords = (command: Command.Loadable): string[] =>
  Object.values(command.args).flatMap((argument) => (argument.options ?? []) as readonly string[]);

function bashScript(program: string, commands: readonly Command.Loadable[]): string {
  const ids = commands.map(({ id }) => id).join(' ');
  const flags = commands.map((command) => {
    const words = flagsOf(command).map(({ name }) => `--${name}`);
    return `    ${command.id}) flags='${[...words, '--help'].join(' ')}' ;;`;
  });
  const values = commands.flatMap((command) =>
    flagsOf(command)
      .filter((flag) => flag.values.length > 0)
      .map((flag) => `    '${command.id} --${flag.name}') values='${flag.values.join(' ')}' ;;`),
  );
  const words = commands.flatMap((command) => {
    const own = argumentWords(command);
    return own.length === 0 ? [] : [`    ${command.id}) words='${own.join(' ')}' ;;`];
  });
  const named = `_${program}`;
  return `${named}() {
  local word="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD-1]}" command="\${COMP_WORDS[1]}" flags='' values='' words=''
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '${ids} help' -- "$word"))
    return
  fi
  if [ "$command" = help ]; then
    COMPREPLY=($(compgen -W '${ids}' -- "$word"))
    return
  fi
  case "$command $before" in
${values.join('\n')}
  esac
  case "$command" in
${flags.join('\n')}
  esac
  case "$command" in
${words.join('\n')}
  esac
  if [ -n "$values" ]; then COMPREPLY=($(compgen -W "$values" -- "$word"))
  elif [ "\${word#-}" != "$word" ]; then COMPREPLY=($(compgen -W "$flags" -- "$word"))
  elif [ -n "$words" ]; then COMPREPLY=($(compgen -W "$words" -- "$word"))
  fi
}
complete -o default -F ${named} ${program}
`;
}

function fishScript(program: string, commands: readonly Command.Loadable[]): string {
  const lines = commands.flatMap((command) => {
    const summary = firstWords(command.summary ?? '');
    const own = `-n '__fish_seen_subcommand_from ${command.id}'`;
    return [
      `complete -c ${program} -f -n __fish_use_subcommand -a ${command.id} -d '${summary}'`,
      ...argumentWords(command).map((word) => `complete -c ${program} -f ${own} -a ${word}`),
      ...flagsOf(command).map(
        ({ name, char, takesValue, values, description }) =>
          `complete -c ${program} ${own} -l ${name}${char === undefined ? '' : ` -s ${char}`}` +
          (values.length > 0 ? ` -x -a '${values.join(' ')}'` : takesValue ? ' -r' : '') +
          ` -d '${description}'`,
      ),
    ];
  });
  const help = `complete -c ${program} -f -n __fish_use_subcommand -a help -d 'Help of a command.'`;
  return [...lines, help, ''].join('\n');
}
