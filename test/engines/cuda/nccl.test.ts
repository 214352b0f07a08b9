/** NCCL between the GPUs of this machine; with one GPU, alone with itself. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import { launchRanks, type LaunchResult } from '../../../src/distributed/launch.js';
import { joinByNccl } from '../../../src/engines/cuda/nccl.js';
import { program } from '../../cli/program.js';
import { checkCollectives, checkSplit } from '../../distributed/collectives.js';
import { cudaBackend, gpuSuite } from './gpu.js';

const test = await gpuSuite('cuda nccl', { storage: 'float32' });
const workerOf = (name: string): string =>
  fileURLToPath(new URL(`../../distributed/${name}.ts`, import.meta.url));

test('the collectives of one rank', async () => {
  const ranks = { launcher: 'torchrun', rank: 0, size: 1, localRank: 0, master: null } as const;
  const communicator = await joinByNccl(ranks, cudaBackend());
  assert.match(communicator.description, /^NCCL 2\.\d+/);
  checkCollectives(communicator);
  checkSplit(communicator);
  communicator.close();
});

const gpus = cudaBackendCount();
const reason = gpus < 2 ? 'several GPUs are needed' : undefined;

test(
  `the collectives of ${gpus} ranks`,
  async () => {
    for (const storage of ['float32', 'bfloat16']) {
      const ranks = Array.from({ length: gpus }, (_, rank) => launch(rank, gpus, ['worker', storage]));
      (await Promise.all(ranks)).forEach((output, rank) => {
        assert.match(output, new RegExp(`rank ${rank} of ${gpus}: NCCL`));
      });
    }
  },
  reason,
);

test(
  `${gpus} ranks decode by steps that they record together`,
  async () => {
    const ranks = Array.from({ length: gpus }, (_, rank) =>
      launch(rank, gpus, ['decoding-worker', 'bfloat16']),
    );
    for (const output of await Promise.all(ranks)) assert.match(output, /recorded steps as computed/);
  },
  reason,
);

test(
  'a rank that ends between recorded steps ends the others',
  async () => {
    for (const [ending, exitCode] of [
      ['killed', 137],
      ['aborting', 3],
    ] as const) {
      const worker = [...(await program(workerOf('decoding-worker'))), 'cuda', 'bfloat16', ending];
      const ended = await launchRanks({
        ranks: gpus,
        transport: 'nccl',
        command: [process.execPath, ...worker],
        environment: process.env,
        onLine: () => undefined,
        graceMilliseconds: 2000,
      });
      const expected: LaunchResult = { exitCode, failedRank: gpus - 1, signal: null };
      assert.equal(ended, expected, ending);
    }
  },
  reason,
);

function cudaBackendCount(): number {
  try {
    return cudaBackend().device.driver.deviceCount;
  } catch {
    return 0;
  }
}

async function launch(rank: number, size: number, [name, storage]: [string, string]): Promise<string> {
  const env = {
    ...process.env,
    ...{ RANK: `${rank}`, WORLD_SIZE: `${size}`, LOCAL_RANK: `${rank}` },
    ...{ MASTER_ADDR: '127.0.0.1', MASTER_PORT: '29611' },
  };
  const args = [...(await program(workerOf(name))), 'cuda', storage];
  return new Promise((resolve, reject) => {
    execFile(process.execPath, args, { env }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(stderr));
    });
  });
}

test.run();
