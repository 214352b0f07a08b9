/** Values and gradients of the ops against the official functions, where `../shared/fixtures/functions` is present. */
import { suite } from 'uvu';
import { SafetensorsFile } from '../../src/checkpoint/safetensors.js';
import { transformerFrequencies, yocoFrequencies } from '../../src/model/frequencies.js';
import { gatedRetention, rmsNorm, rotary, swiglu } from '../../src/ops/index.js';
import { rotaryTable } from '../../src/ops/rotary/phases.js';
import * as tf from '../../src/tf.js';
import { usePlainBackend } from '../plain-backend.js';
import { sharedPath } from '../shared.js';
import { skipBecause } from '../skip.js';
import { close } from './compare.js';
import * as official from './official.js';

const test = suite('ops: official functions');
const path = sharedPath(official.FUNCTIONS);

if (path === null) {
  skipBecause('needs ../shared/fixtures', test, 'the ops agree with the official functions');
} else {
  test.before(usePlainBackend);
  const golden = SafetensorsFile.open(path);
  test.after(() => {
    golden.close();
  });

  const values = (name: string): Float32Array => official.values(golden, name);
  const tensor = (name: string): tf.Tensor => official.tensor(golden, name);
  const { differentiate } = official;

  const check = (found: tf.Tensor | undefined, name: string, tolerance = 1e-5): void => {
    close(found as tf.Tensor, values(name), tolerance, name);
  };

  for (const [width, theta] of [
    [16, 1e4],
    [32, 1e4],
    [16, 1e5],
    [32, 1e5],
  ] as const) {
    test(`rotary frequencies and tables, head width ${width}, theta ${theta}`, () => {
      const positions = golden.read('rope.positions') as Int32Array;
      const compare = (frequencies: Float64Array, name: string): void => {
        const table = rotaryTable({ start: 0, positions, frequencies }, positions.length);
        // The official phases are float32 products, off by up to half a unit in the last place of the phase.
        const tolerance = Math.max(...positions) * 1.2e-7;
        close(tf.tensor1d(Float32Array.from(frequencies)), values(`${name}.angle`), 1e-7, `${name}.angle`);
        close(tf.tensor1d(table.cos), values(`${name}.cos`), tolerance, `${name}.cos`);
        close(tf.tensor1d(table.sin), values(`${name}.sin`), tolerance, `${name}.sin`);
      };
      tf.tidy(() => {
        compare(yocoFrequencies(width, theta), `rope.yoco_d${width}_theta${theta}`);
        if (width === 16 && theta === 1e4) {
          compare(transformerFrequencies(width, theta, null), 'rope.transformer_d16_theta10000');
        }
      });
    });
  }

  test('yoco frequencies are the official float32 ones bit for bit', () => {
    for (const name of ['d16_theta10000', 'd32_theta10000', 'd16_theta100000', 'd32_theta100000']) {
      const [, width, theta] = /d(\d+)_theta(\d+)/.exec(name) as unknown as [string, string, string];
      const found = yocoFrequencies(Number(width), Number(theta));
      tf.tidy(() => {
        close(tf.tensor1d(Float32Array.from(found)), values(`rope.yoco_${name}.angle`), 0, name);
      });
    }
  });

  test('rotation of pairs', () => {
    tf.tidy(() => {
      const angles = Float64Array.from({ length: 4 }, (_, i) =>
        Math.atan2(values('rope.sin')[4 + i] as number, values('rope.cos')[4 + i] as number),
      );
      const first = Float64Array.from({ length: 4 }, (_, i) =>
        Math.atan2(values('rope.sin')[i] as number, values('rope.cos')[i] as number),
      );
      // Positions 5 to 13: the angle of one step is the difference of the first two rows.
      const frequencies = angles.map(
        (angle, i) => (((angle - (first[i] as number)) % (2 * Math.PI)) + 2 * Math.PI) % (2 * Math.PI),
      );
      for (const style of ['interleaved', 'half'] as const) {
        const [out, gradient] = differentiate(
          (x) => rotary(x as tf.Tensor4D, { start: 5, frequencies, style }),
          [tensor('rope.x')],
          tensor('rope.grad_out'),
        );
        check(out, `rope.out_${style}`);
        check(gradient, `rope.grad_x_${style}`);
      }
    });
  });

  test('rmsNorm', () => {
    tf.tidy(() => {
      for (const eps of ['1e-5', '1e-6']) {
        const [out, dx, dw] = differentiate(
          (x, w) => rmsNorm(x, w, Number(eps)),
          [tensor('rmsnorm.x'), tensor('rmsnorm.w')],
          tensor('rmsnorm.grad_out'),
        );
        check(out, `rmsnorm.out_eps${eps}`);
        check(dx, `rmsnorm.grad_x_eps${eps}`);
        check(dw, `rmsnorm.grad_w_eps${eps}`);
      }
      const [out, dx] = differentiate(
        (x) => rmsNorm(x, null, 1e-5),
        [tensor('rmsnorm.x')],
        tensor('rmsnorm.grad_out'),
      );
      check(out, 'rmsnorm.out_noaffine_eps1e-5');
      check(dx, 'rmsnorm.grad_x_noaffine_eps1e-5');
    });
  });

  test('swiglu', () => {
    tf.tidy(() => {
      const inputs = [tensor('swiglu.x'), tensor('swiglu.y')];
      const [out, dx, dy] = differentiate((a, b) => swiglu(a, b), inputs, tensor('swiglu.grad_out'));
      check(out, 'swiglu.out');
      check(dx, 'swiglu.grad_x');
      check(dy, 'swiglu.grad_y');
    });
  });

  test('attention with window, groups and query offset', () => {
    tf.tidy(() => {
      for (const { name, found, expected } of official.attentionOutcomes(golden)) {
        close(found, expected, 1e-5, name);
      }
    });
  });

  const retentionInputs = (): tf.Tensor[] => official.retentionInputs(golden);

  const checkTimeFirst = (found: tf.Tensor | undefined, name: string, tolerance = 1e-5): void => {
    close(found as tf.Tensor, official.timeFirst(golden, name), tolerance, name);
  };

  test('retention: every form gives the official outputs and states', () => {
    for (const [form, name] of [
      ['parallel', 'ret.o_parallel'],
      ['chunkwise', 'ret.o_chunk32'],
      ['recurrent', 'ret.o_recurrent'],
    ] as const) {
      tf.tidy(() => {
        const [q, k, v, g] = retentionInputs() as [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D, tf.Tensor3D];
        const zero = gatedRetention(q, k, v, g, { form, chunkSize: 32 });
        checkTimeFirst(zero.output, name);
        checkTimeFirst(zero.output, 'ret.o_hier16_48');
        check(zero.state, 'ret.final_state');
        const state = tensor('ret.s0') as tf.Tensor4D;
        const from = gatedRetention(q, k, v, g, { form, chunkSize: 40, state });
        checkTimeFirst(from.output, form === 'recurrent' ? 'ret.o_recurrent_s0' : 'ret.o_chunk32_s0');
        check(from.state, 'ret.final_state_s0');
      });
    }
  });

  test('retention: gradients, also to the decay and the initial state', () => {
    tf.tidy(() => {
      for (const { name, found, expected } of official.retentionOutcomes(golden)) {
        close(found, expected, 1e-5, name);
      }
    });
  });
}

test.run();
