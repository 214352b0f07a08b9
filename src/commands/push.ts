import { Args, Flags } from '@oclif/core';
import { PlainCommand } from '../cli/plain-command.js';

export default class Push extends PlainCommand {
  static override summary = 'Upload a checkpoint to the Hugging Face hub, with a model card.';
  static override description =
    'DIRECTORY is a checkpoint, or a training run, of which the newest checkpoint is taken. It is opened and every weight is looked at before ' +
    'anything is sent. The repository is made where there is none. The card has the configuration, the recipe, the losses and the hashes of the ' +
    'data; a README.md in it is taken in its place. Needs a token that may write: HF_TOKEN, or what huggingface-cli login has left.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> runs/books owner/books --license mit --private',
    '<%= config.bin %> <%= command.id %> runs/books owner/books --dry-run',
  ];
  static override args = {
    directory: Args.string({
      description: 'checkpoint directory, or a training run',
      required: true,
      ignoreStdin: true,
    }),
    repository: Args.string({ description: 'owner/name on the hub', required: true, ignoreStdin: true }),
  };
  static override flags = {
    private: Flags.boolean({ description: 'a repository that is made is private' }),
    license: Flags.string({ description: 'licence of the weights, for the card', helpValue: 'mit' }),
    'dry-run': Flags.boolean({ description: 'check, name the files, print the card; send nothing' }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Push);
    const { parseRepositoryName, uploadModel } = await import('../library/hub.js');
    const { preparePublication } = await import('../library/training.js');
    const repository = parseRepositoryName(args.repository);
    const { files, card, hasOwnCard } = preparePublication(args.directory, {
      repository,
      license: flags.license,
    });
    if (hasOwnCard && flags.license !== undefined)
      this.caution('--license has no effect: the README.md of the directory is the card');
    const names = files.map(({ path }) => path).join(', ');
    if (flags['dry-run']) {
      this.note(`to be sent to ${repository}: ${names}`);
      process.stdout.write(card);
      return;
    }
    const summary = 'Upload a checkpoint with yoco';
    const { url, commit, isNew } = await uploadModel({
      repository,
      files,
      summary,
      isPrivate: flags.private,
    });
    if (!isNew && flags.private)
      this.caution(`${repository} was there already: whether it is private has not changed`);
    process.stdout.write(`${url}\n`);
    this.note(`sent: ${names} (commit ${commit})`);
  }
}
