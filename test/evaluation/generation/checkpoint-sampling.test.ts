import { writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  checkpointSampling,
  chooseSampling,
} from '../../../src/evaluation/generation/checkpoint-sampling.js';
import { refuses, scratchDirectory } from '../../checkpoint/scratch.js';

const test = suite('evaluation/generation/checkpoint-sampling');
const at = scratchDirectory(test);
const says = (fields: object): ReturnType<typeof checkpointSampling> => {
  writeFileSync(at('generation_config.json'), JSON.stringify(fields));
  return checkpointSampling(at('.'));
};

test('a checkpoint draws at random only where its file says so, with what transformers takes for what is not named', () => {
  assert.is(checkpointSampling(at('nowhere')), null);
  assert.is(says({ eos_token_id: 2, temperature: 0.6 }), null);
  assert.equal(says({ do_sample: true }), { temperature: 1, topK: 50, topP: 1 });
  assert.equal(says({ do_sample: true, temperature: 0.7, top_k: 0, top_p: 0.9 }), {
    temperature: 0.7,
    topK: undefined,
    topP: 0.9,
  });
  refuses(
    () => says({ do_sample: true, temperature: '0.7' }),
    /generation_config\.json: temperature must be/,
  );
});

test('what the caller gives goes before the checkpoint', () => {
  const checkpoint = { temperature: 0.7, topK: 20, topP: 0.9 };
  assert.is(chooseSampling({}, null), null);
  assert.equal(chooseSampling({}, checkpoint), checkpoint);
  assert.is(chooseSampling({ temperature: 0 }, checkpoint), null, 'greedy');
  assert.equal(chooseSampling({ topK: 3 }, checkpoint), { ...checkpoint, topK: 3 });
  assert.equal(chooseSampling({ temperature: 1 }, checkpoint), { temperature: 1, topK: null, topP: null });
  refuses(() => chooseSampling({ topK: 3 }, null), /give --temperature/);
  refuses(() => chooseSampling({}, { temperature: -1 }), /temperature -1 must be above 0/);
});

test.run();
