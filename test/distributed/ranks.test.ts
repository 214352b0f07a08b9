import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { firstHost, ranksOf } from '../../src/distributed/ranks.js';

const test = suite('distributed: ranks');

test('a process that no launcher started is alone', () => {
  assert.is(ranksOf({}), null);
  assert.is(ranksOf({ RANK: '0', WORLD_SIZE: '1', LOCAL_RANK: '0' }), null);
});

test('each launcher says rank, size and place in its own words', () => {
  const environments: [string, NodeJS.ProcessEnv][] = [
    ['torchrun', { RANK: '3', WORLD_SIZE: '8', LOCAL_RANK: '1' }],
    ['open-mpi', { OMPI_COMM_WORLD_RANK: '3', OMPI_COMM_WORLD_SIZE: '8', OMPI_COMM_WORLD_LOCAL_RANK: '1' }],
    ['mpich', { PMI_RANK: '3', PMI_SIZE: '8', MPI_LOCALRANKID: '1' }],
    ['slurm', { SLURM_PROCID: '3', SLURM_NTASKS: '8', SLURM_LOCALID: '1', SLURM_STEP_ID: '0' }],
  ];
  for (const [launcher, environment] of environments) {
    const { rank, size, localRank, launcher: found } = ranksOf(environment) ?? {};
    assert.equal([found, rank, size, localRank], [launcher, 3, 8, 1]);
  }
});

test('the batch script of a Slurm job is no rank', () => {
  assert.is(ranksOf({ SLURM_PROCID: '0', SLURM_NTASKS: '8', SLURM_LOCALID: '0' }), null);
});

test('the shell of an interactive Slurm job is no rank', () => {
  const shell = { SLURM_PROCID: '0', SLURM_LOCALID: '0', SLURM_STEP_ID: '4294967290', SLURM_NTASKS: '4' };
  assert.is(ranksOf({ ...shell, SLURM_STEP_NUM_TASKS: '1' }), null);
  assert.is(ranksOf({ ...shell, SLURM_STEP_ID: '0', SLURM_STEP_NUM_TASKS: '4' })?.size, 4);
});

test('processes of one launcher that another one says to be alone are refused', () => {
  const alone = { RANK: '0', WORLD_SIZE: '1' };
  const mpi = { OMPI_COMM_WORLD_RANK: '1', OMPI_COMM_WORLD_SIZE: '2' };
  assert.throws(() => ranksOf({ ...alone, ...mpi }), /WORLD_SIZE is 1, but OMPI_COMM_WORLD_SIZE is 2/);
  assert.is(ranksOf({ ...alone, OMPI_COMM_WORLD_RANK: '0', OMPI_COMM_WORLD_SIZE: '1' }), null);
});

test('torchrun within a Slurm step counts', () => {
  const slurm = { SLURM_PROCID: '1', SLURM_NTASKS: '2', SLURM_LOCALID: '0', SLURM_STEP_ID: '0' };
  const ranks = ranksOf({ ...slurm, RANK: '5', WORLD_SIZE: '8', LOCAL_RANK: '1' });
  assert.is(ranks?.rank, 5);
});

test('rank 0 is where the launcher says, or on the first host of the job', () => {
  const alone = { RANK: '0', WORLD_SIZE: '2', LOCAL_RANK: '0' };
  assert.is(ranksOf(alone)?.master, null);
  assert.equal(ranksOf({ ...alone, MASTER_ADDR: 'a', MASTER_PORT: '1234' })?.master, {
    host: 'a',
    port: 1234,
  });
  const slurm = { SLURM_PROCID: '1', SLURM_NTASKS: '2', SLURM_LOCALID: '0', SLURM_STEP_ID: '0' };
  assert.equal(ranksOf({ ...slurm, SLURM_STEP_NODELIST: 'gpu[07-09,12],login' })?.master, {
    host: 'gpu07',
    port: 29500,
  });
});

test('every Slurm step has a port of its own, unless MASTER_PORT names one', () => {
  const step = { SLURM_PROCID: '0', SLURM_NTASKS: '2', SLURM_STEP_ID: '3', SLURM_STEP_NODELIST: 'a' };
  const job = { ...step, SLURM_JOB_ID: '7001' };
  assert.is(ranksOf(job)?.master?.port, 20000 + 2 * 3004);
  assert.is(ranksOf({ ...job, MASTER_PORT: '1234' })?.master?.port, 1234);
  assert.is.not(ranksOf({ ...job, SLURM_STEP_ID: '4' })?.run, ranksOf(job)?.run);
});

test('the first host of a Slurm list', () => {
  const lists = { 'a1,b2': 'a1', 'gpu[07-09,12]': 'gpu07', 'rack[1-2]node[3-4],x': 'rack1node3', n1: 'n1' };
  for (const [list, host] of Object.entries(lists)) assert.is(firstHost(list), host);
});

test('variables that cannot be meant are refused by name', () => {
  const refused = (environment: NodeJS.ProcessEnv, pattern: RegExp): void => {
    assert.throws(() => ranksOf(environment), pattern);
  };
  refused({ RANK: '2', WORLD_SIZE: '2' }, /RANK is 2, but WORLD_SIZE is 2/);
  refused({ RANK: 'x', WORLD_SIZE: '2' }, /RANK must be a whole number/);
  refused({ RANK: '0', WORLD_SIZE: '2', MASTER_PORT: '65535' }, /MASTER_PORT must be a port/);
});

test.run();
