import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { diagnose } from '../../src/engines/doctor.js';
import { ENGINE_NAMES } from '../../src/engines/engine.js';
import { probeEngines } from '../../src/engines/start.js';
import { runCli } from '../cli/run.js';

const test = suite('doctor');

interface FindingRow {
  readonly topic: string;
  readonly name: string;
  readonly state: string;
  readonly value: string;
}

test('says of every engine whether it starts, and what the machine has', async () => {
  const { exitCode, stdout, stderr } = await runCli('doctor', '--format', 'json');
  assert.is(exitCode, 0, stderr);
  const rows = JSON.parse(stdout) as FindingRow[];
  const engines = rows.filter(({ topic }) => topic === 'engine');
  assert.equal(engines.map(({ name }) => name).sort(), [...ENGINE_NAMES].sort());
  assert.is(engines.filter(({ value }) => value.includes('(the default)')).length, 1);
  assert.is(engines.find(({ name }) => name === 'cpu')?.state, 'ok');
  for (const { name, state, value } of engines) if (state !== 'ok') assert.ok(value.length > 10, name);
  const names = rows.map(({ topic, name }) => `${topic} ${name}`);
  for (const name of [
    'version node',
    'version onnxruntime-node',
    'version NCCL',
    'version MPI',
    'machine memory',
    'hub hub',
  ]) {
    assert.ok(names.includes(name), name);
  }
});

test('an engine that computes wrongly does not count, and settings that are wrong are a finding', async () => {
  const endpoint = process.env.HF_ENDPOINT;
  process.env.HF_ENDPOINT = 'nowhere';
  try {
    const { findings } = await diagnose();
    const hub = findings.find(({ topic }) => topic === 'hub');
    assert.is(hub?.status, 'problem');
    assert.match(hub?.value ?? '', /HF_ENDPOINT 'nowhere'/);
  } finally {
    if (endpoint === undefined) delete process.env.HF_ENDPOINT;
    else process.env.HF_ENDPOINT = endpoint;
  }
  const wrong = await probeEngines(() => Promise.resolve(false));
  assert.ok(wrong.every(({ description, problem }) => description === null && problem !== null));
});

test.run();
