import { Args, Flags } from '@oclif/core';
import { outFlag, outputFlags } from '../cli/flags.js';
import { PlainCommand } from '../cli/plain-command.js';
import { UsageError, type Schema } from '../library/basics.js';

/** The sets of `data/tasks/sets.ts`, repeated here so that `--help` loads nothing. */
const SETS = [
  ...['mmlu', 'arc-easy', 'arc-challenge', 'piqa', 'boolq', 'openbookqa', 'winogrande', 'lambada'],
  ...['hellaswag', 'sciq'],
];

const LIST: Schema = {
  name: 'data',
  columns: [
    { name: 'name', kind: 'key', description: 'what data fetch is given' },
    { name: 'repository', kind: 'result', description: 'where it is published on the hub' },
    { name: 'configuration', kind: 'result', description: 'which part of the repository' },
    { name: 'split', kind: 'result', description: 'the split that is asked' },
    { name: 'items', kind: 'result', description: 'its items', display: 'count' },
    { name: 'path', kind: 'result', description: 'where it has been put' },
  ],
};

const FETCHED: Schema = {
  name: 'data',
  columns: [
    { name: 'name', kind: 'key', description: 'the set' },
    { name: 'items', kind: 'result', description: 'items asked', display: 'count' },
    { name: 'repository', kind: 'result', description: 'where it was fetched from' },
    { name: 'commit', kind: 'result', description: 'its revision' },
    { name: 'path', kind: 'result', description: 'where it was put' },
  ],
};

export default class Data extends PlainCommand {
  static override summary = 'Fetch the published questions of MMLU and the tasks of eval.';
  static override description =
    `Sets: ${SETS.join(', ')}; all for every one. They come from the Hugging Face hub, are checked, converted into the files that ` +
    'eval and eval-mmlu read, and kept in the cache (or --out), where eval finds them without --data, and eval-mmlu with --data mmlu. ' +
    'Beside them, NAME.source.json has the commit and the hashes of what was read and written. docs/hub.md describes tokens, the cache and ' +
    'work without the network.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> list',
    '<%= config.bin %> <%= command.id %> fetch hellaswag arc-easy && <%= config.bin %> eval --checkpoint runs/books',
    '<%= config.bin %> <%= command.id %> fetch mmlu --out data',
  ];
  static override strict = false;
  static override args = {
    action: Args.string({
      description: 'what to do',
      options: ['list', 'fetch'],
      required: true,
      ignoreStdin: true,
    }),
    name: Args.string({
      description: 'sets to fetch, or all; several may be given',
      options: [...SETS, 'all'],
      ignoreStdin: true,
    }),
  };
  static override flags = {
    out: outFlag({ description: 'directory for tasks/ and mmlu/ (default: the cache)', helpValue: 'DIR' }),
    revision: Flags.string({
      description: 'branch, tag or commit of the repository (default: main)',
      helpValue: 'NAME',
    }),
    format: outputFlags.format,
  };

  /** Known when the action is: list only reads in --out. */
  protected override destinations() {
    return [];
  }

  async run(): Promise<void> {
    const { argv, args, flags } = await this.parse(Data);
    const names = argv.slice(1).map(String);
    const { dataFolder, fetchSet, listSets } = await import('../library/hub.js');
    const { printRows } = await import('../library/results.js');
    const { out: folder = dataFolder(), revision, format } = flags;
    if (args.action === 'list') {
      if (names.length > 0) throw new UsageError(`list takes no name: leave '${names[0] ?? ''}' out`);
      const rows = listSets(folder).map((set) => ({ ...set, status: 'ok' }));
      process.stdout.write(printRows(LIST, rows, format, this.tableOptions()));
      return;
    }
    const sets = names.includes('all') ? SETS : [...new Set(names)];
    const unknown = sets.find((name) => !SETS.includes(name));
    if (sets.length === 0 || unknown !== undefined) {
      const problem = unknown === undefined ? 'fetch needs a name' : `no set '${unknown}'`;
      throw new UsageError(`${problem}: the sets are ${SETS.join(', ')}, and all for every one`);
    }
    this.requireDestinations([{ directory: folder }]);
    const rows = [];
    for (const name of sets) {
      const { repository, commit, items, path } = await fetchSet(name, {
        folder,
        revision,
        note: this.reports().note,
      });
      rows.push({ name, repository, commit, items, path, status: 'ok' });
    }
    process.stdout.write(printRows(FETCHED, rows, format, this.tableOptions()));
  }
}
