import { existsSync } from 'node:fs';
import { Flags } from '@oclif/core';
import { PlainCommand } from '../cli/plain-command.js';
import { selfCommand } from '../cli/self.js';
import { UsageError } from '../library/basics.js';

export default class Launch extends PlainCommand {
  static override summary = 'Run a command as several processes on this machine, one per GPU.';
  static override description =
    'Starts the command after -- once per rank. GPUs talk by NCCL; with --engine cpu the processes talk by MPI and mpirun starts ' +
    'them. Lines on stderr are marked by rank; stdout has the results, which rank 0 prints. Signals go to all ranks. The first rank ' +
    'that fails ends the others, and its exit status is the exit status of launch. On several machines use torchrun, srun or mpirun.';
  static override usage = '<%= command.id %> --ranks N [FLAGS] -- COMMAND [ARGUMENT...]';
  static override examples = [
    '<%= config.bin %> <%= command.id %> --ranks 4 -- train --preset 160m --out runs/160m',
    '<%= config.bin %> <%= command.id %> --ranks 2 -- train --engine cpu --preset pico --steps 20',
  ];
  static override flags = {
    ranks: Flags.integer({
      description: 'processes to start',
      min: 1,
      max: 1024,
      required: true,
      helpValue: 'N',
    }),
  };

  async run(): Promise<void> {
    // What follows -- belongs to the command, word by word.
    const argv = [...this.argv];
    const end = argv.indexOf('--');
    const misplaced = end < 0 ? argv.find((word) => this.config.findCommand(word)) : undefined;
    if (misplaced !== undefined) {
      throw new UsageError(`write -- before the command: yoco launch --ranks 4 -- ${misplaced} …`);
    }
    const { flags } = await this.parse(Launch, end < 0 ? argv : argv.slice(0, end));
    const words = end < 0 ? [] : argv.slice(end + 1);
    const [command] = words;
    if (command === undefined) {
      throw new UsageError('launch needs a command: yoco launch --ranks 4 -- train …');
    }
    if (command === this.id || !this.config.findCommand(command)) {
      throw new UsageError(`launch cannot start '${command}': name a command of yoco after --`);
    }
    const { launchRanks } = await import('../library/ranks.js');
    const { exitCode, failedRank, signal } = await launchRanks({
      ranks: flags.ranks,
      transport: transportOf(words),
      command: [...selfCommand(), ...words],
      environment: process.env,
    });
    if (exitCode === 0) return;
    const who = failedRank === null ? 'a rank' : `rank ${failedRank}`;
    // Ranks that were asked to stop say themselves what they have saved.
    if (signal === null)
      process.stderr.write(`yoco: ${who} failed with exit status ${exitCode}; the others were ended\n`);
    this.exit(exitCode);
  }
}

/** By the engine that the command is going to take: MPI for the CPU, NCCL for GPUs. */
function transportOf(words: readonly string[]): 'nccl' | 'mpi' {
  const at = words.findIndex((word) => word === '--engine' || word.startsWith('--engine='));
  const engine = at < 0 ? 'auto' : (words[at]?.split('=')[1] ?? words[at + 1]);
  const hasGpu = existsSync('/dev/nvidia0');
  return engine === 'cuda' || (engine === 'auto' && hasGpu) ? 'nccl' : 'mpi';
}
