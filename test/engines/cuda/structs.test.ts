/** The descriptions of structs are those of the sources. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { kernelDefines, kernelSource } from '../../../src/engines/cuda/sources.js';
import * as structs from '../../../src/engines/cuda/structs.js';

const test = suite('cuda structs');

/** Source, the struct's name there, and its description. */
const DESCRIBED = [
  ['attention', 'Source', structs.SOURCE],
  ['attention', 'Shape', structs.ATTENTION_SHAPE],
  ['attention_decode', 'Cache', structs.CACHE],
  ['attention_coded', 'CodePage', structs.CODE_PAGE],
  ['attention_coded', 'Problem', structs.CODED_PROBLEM],
  ['attention_coded', 'Raw', structs.RAW],
  ['attention_hopper', 'Problem', structs.HOPPER_PROBLEM],
  ['attention_hopper_grad', 'Problem', structs.HOPPER_GRAD_PROBLEM],
  ['elementwise', 'Broadcast', structs.BROADCAST],
  ['layout', 'Walk', structs.WALK],
  ['embedding_grad', 'Sorted', structs.SORTED],
  ['gemv', 'Group', structs.GROUP],
  ['gemv_float8', 'Group', structs.FLOAT8_GROUP],
  ['gemv_chain', 'Stage', structs.STAGE],
  ['linear_swiglu_hopper', 'Grid', structs.LINEAR_SWIGLU_GRID],
  ['optimizer', 'Tensor', structs.TENSOR],
  ['optimizer', 'Rule', structs.RULE],
  ['page', 'Written', structs.WRITTEN],
  ['retention', 'Shape', structs.RETENTION_SHAPE],
  ['retention_hopper_states', 'Walk', structs.RETENTION_WALK],
  ['retention_step', 'Shape', structs.RETENTION_STEP_SHAPE],
  ['delta', 'Shape', structs.DELTA_SHAPE],
  ['delta_chunk', 'Shape', structs.RETENTION_SHAPE],
  ['delta_grad', 'Shape', structs.RETENTION_SHAPE],
  ['short_convolution', 'Shape', structs.CONVOLUTION_SHAPE],
  ['rotary', 'Turned', structs.TURNED],
] as const;

interface Member {
  name: string;
  type: string;
  count: number;
}

const TYPES: Readonly<Record<string, string>> = { i64: 'int64', int: 'int32', float: 'float32' };

/** Members of `struct name` of a source, in order. */
function members(file: string, name: string): Member[] {
  const { source, headers } = kernelSource(file);
  const defines = kernelDefines(file, 'bfloat16');
  const text = [...Object.values(headers), source].join('\n');
  const body = new RegExp(`struct ${name} {\\n(.*?)\\n};`, 's').exec(text)?.[1] ?? '';
  return body
    .replace(/\/\/.*$/gm, '')
    .split(';')
    .flatMap((line) => {
      const [, base = '', names = ''] =
        /^\s*((?:const )?\w+(?:\s*\*(?:\s*const\s*\*)?)?)\s*(.*)$/s.exec(line) ?? [];
      return names.split(',').map((member): Member => {
        const [, own = '', extent] = /^\s*(\w+)(?:\[(\w+)\])?\s*$/.exec(member) ?? [];
        const type = base.includes('*') ? 'pointer' : (TYPES[base.trim()] ?? base);
        return { name: own, type, count: extent === undefined ? 1 : (defines[extent] ?? Number(extent)) };
      });
    })
    .filter(({ name }) => name !== '');
}

for (const [file, name, { places }] of DESCRIBED) {
  test(`${name} of ${file}`, () => {
    const described = places.map(({ name, type, count }): Member => ({ name, type, count }));
    assert.equal(described, members(file, name));
    assert.ok(described.length > 1);
  });
}

test('every struct that is described is compared', () => {
  const all = Object.values(structs).filter((value) => value instanceof structs.Struct);
  assert.is(all.length, new Set(DESCRIBED.map(([, , struct]) => struct)).size);
});

test('fields lie at multiples of their size; more values than an array holds are refused', () => {
  const struct = new structs.Struct({ a: 'int32', b: 'pointer', c: ['float32', 3] });
  assert.equal(
    struct.places.map(({ offset }) => offset),
    [0, 8, 16],
  );
  assert.is(struct.bytes, 32);
  const bytes = struct.table([{ a: -1, b: 2 ** 46, c: [0.5] }], 2);
  const view = new DataView(bytes.buffer);
  assert.is(bytes.length, 64);
  assert.equal(
    [view.getInt32(0, true), view.getBigUint64(8, true), view.getFloat32(16, true)],
    [-1, 2n ** 46n, 0.5],
  );
  assert.throws(() => struct.table([{ a: 0, b: 0, c: [1, 2, 3, 4] }]), /c has 3 values, not 4/);
});

test.run();
