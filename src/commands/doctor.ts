import { Flags } from '@oclif/core';
import { PlainCommand } from '../cli/plain-command.js';
import { RunError, type Schema } from '../library/basics.js';

const SCHEMA: Schema = {
  name: 'doctor',
  columns: [
    { name: 'topic', kind: 'key', description: 'engine, version, machine, disk, cache or hub' },
    { name: 'name', kind: 'key', description: 'what was looked at' },
    { name: 'state', kind: 'result', description: 'ok, absent (not needed) or problem (to be fixed)' },
    { name: 'value', kind: 'result', description: 'what was found; why it is absent, and what to install' },
  ],
};

export default class Doctor extends PlainCommand {
  static override summary = 'What works on this machine, and what to install for the rest.';
  static override description =
    'Starts every engine and lets it multiply two matrices; says why the others do not start. Lists versions (the toolkit, Node, its ' +
    'libraries, NCCL, MPI), processor, memory, disk, caches and the settings of the hub. Opens no connection. The exit status is 0 where an ' +
    'engine works, else 1.';
  static override examples = [
    '<%= config.bin %> <%= command.id %>',
    '<%= config.bin %> <%= command.id %> --format json',
  ];
  static override flags = {
    format: Flags.option({
      options: ['table', 'json'] as const,
      description: 'how the findings are printed on stdout',
      default: 'table',
      helpGroup: 'OUTPUT',
    })(),
  };

  async run(): Promise<void> {
    const { flags } = await this.parse(Doctor);
    const { diagnose } = await import('../library/engines.js');
    const { printRows } = await import('../library/results.js');
    const { findings, defaultEngine } = await diagnose();
    const rows = findings.map(({ topic, name, status, value }) => ({
      topic,
      name,
      state: status,
      value,
      status: 'ok',
    }));
    process.stdout.write(printRows(SCHEMA, rows, flags.format, { ...this.tableOptions(), width: undefined }));
    if (defaultEngine === null)
      throw new RunError('no engine works on this machine: the rows of topic engine say why');
    const problems = findings.filter(({ status }) => status === 'problem').length;
    this.note(
      `${defaultEngine.name} is the default engine${problems > 0 ? `; ${problems} problems are to be fixed` : ''}`,
    );
  }
}
