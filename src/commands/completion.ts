import { Args } from '@oclif/core';
import { completionScript, SHELLS } from '../cli/completion.js';
import { PlainCommand } from '../cli/plain-command.js';

export default class Completion extends PlainCommand {
  static override summary = 'Print a script by which a shell completes commands and flags.';
  static override description =
    'Have the shell read it when it starts: with bash, add `source <(yoco completion bash)` to ~/.bashrc; with zsh, ' +
    '`source <(yoco completion zsh)` to ~/.zshrc; with fish, `yoco completion fish | source` to config.fish.';
  static override examples = ['source <(<%= config.bin %> <%= command.id %> bash)'];
  static override args = {
    shell: Args.string({ description: 'the shell', options: [...SHELLS], required: true, ignoreStdin: true }),
  };

  async run(): Promise<void> {
    const { args } = await this.parse(Completion);
    const shell = SHELLS.find((name) => name === args.shell) ?? 'bash';
    process.stdout.write(completionScript(shell, this.config.bin, this.config.commands));
  }
}
