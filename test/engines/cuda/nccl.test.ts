/** NCCL between the GPUs of this machine; with one GPU, alone with itself. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import { joinByNccl } from '../../../src/engines/cuda/nccl.js';
import { checkCollectives, checkSplit } from '../../distributed/collectives.js';
import { cudaBackend, gpuSuite } from './gpu.js';

const test = await gpuSuite('cuda nccl', { storage: 'float32' });
const worker = fileURLToPath(new URL('../../distributed/worker.ts', import.meta.url));

test('the collectives of one rank', async () => {
  const ranks = { launcher: 'torchrun', rank: 0, size: 1, localRank: 0, master: null } as const;
  const communicator = await joinByNccl(ranks, cudaBackend());
  assert.match(communicator.description, /^NCCL 2\.\d+/);
  checkCollectives(communicator);
  checkSplit(communicator);
  communicator.close();
});

const gpus = cudaBackendCount();

test(
  `the collectives of ${gpus} ranks`,
  async () => {
    for (const storage of ['float32', 'bfloat16']) {
      const ranks = Array.from({ length: gpus }, (_, rank) => launch(rank, gpus, storage));
      (await Promise.all(ranks)).forEach((output, rank) => {
        assert.match(output, new RegExp(`rank ${rank} of ${gpus}: NCCL`));
      });
    }
  },
  gpus < 2 ? 'several GPUs are needed' : undefined,
);

function cudaBackendCount(): number {
  try {
    return cudaBackend().device.driver.deviceCount;
  } catch {
    return 0;
  }
}

function launch(rank: number, size: number, storage: string): Promise<string> {
  const env = {
    ...process.env,
    ...{ RANK: `${rank}`, WORLD_SIZE: `${size}`, LOCAL_RANK: `${rank}` },
    ...{ MASTER_ADDR: '127.0.0.1', MASTER_PORT: '29611' },
  };
  return new Promise((resolve, reject) => {
    const args = ['--import', 'tsx', worker, 'cuda', storage];
    execFile(process.execPath, args, { env }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(stderr));
    });
  });
}

test.run();
