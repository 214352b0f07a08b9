/** What the engine is held against: ONNX Runtime called directly, reading memory, and tfjs' other CPU backends. */
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { graph } from '../src/engines/cpu/graph.js';
import type { OnnxRuntime } from '../src/engines/cpu/runtime.js';
import * as tf from '../src/tf.js';

const SIDE = 1024;
/** Products per run: enough that the caches belong to them, whatever ran before. */
const PRODUCTS = 8;
/** Operations of a run of `directProduct`. */
export const PRODUCT_OPERATIONS = PRODUCTS * 2 * SIDE ** 3;

function randomArray(length: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => Math.sin(i));
}

/** 1024³ products by ONNX Runtime's MatMul, without tfjs. */
export function directProduct(runtime: OnnxRuntime): () => void {
  const [a, b, y] = [1, 2, 3].map(() => runtime.wrap(randomArray(SIDE * SIDE), [SIDE, SIDE]));
  if (!a || !b || !y) throw new Error('unreachable');
  const define = () =>
    graph((g) => {
      g.output('y', 2, g.op('MatMul', [g.input('a', 2), g.input('b', 2)]));
    });
  return () => {
    for (let i = 0; i < PRODUCTS; i++) runtime.run('bench/product', define, { a, b }, { y });
  };
}

/** The same by the current tfjs backend, `count` products of the given side. */
export function engineProduct(side = SIDE, count = PRODUCTS): { run: () => void; operations: number } {
  const [a, b] = [tf.randomNormal([side, side]), tf.randomNormal([side, side])];
  const run = () => {
    for (let i = 0; i < count; i++) tf.matMul(a, b).dispose();
  };
  return { run, operations: count * 2 * side ** 3 };
}

/** Values per row that `readMemory` reads; lengths of arrays are multiples of it. */
const ROW = 4096;

/** Reads arrays once, all threads, by the maxima of their rows. */
export function readMemory(runtime: OnnxRuntime, arrays: readonly Float32Array[]): () => void {
  const define = () =>
    graph((g) => {
      g.output('y', 2, g.op('ReduceMax', [g.input('x', 2), g.integers(1)], { keepdims: 1 }));
    });
  const runs = arrays.map((array) => {
    const rows = array.length / ROW;
    return { x: runtime.wrap(array, [rows, ROW]), y: runtime.wrap(new Float32Array(rows), [rows, 1]) };
  });
  return () => {
    for (const { x, y } of runs) runtime.run('bench/read', define, { x }, { y });
  };
}

/** Makes tfjs' WASM backend current (one thread: its threads do not start in Node); false where it cannot run. */
export async function useWasm(): Promise<boolean> {
  try {
    const { setWasmPaths } = await import('@tensorflow/tfjs-backend-wasm');
    const entry = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm');
    setWasmPaths(`${dirname(entry)}/`.replaceAll('\\', '/'));
    return await tf.setBackend('wasm');
  } catch (error) {
    process.stderr.write(`tfjs-backend-wasm does not run here: ${String(error)}\n`);
    return false;
  }
}
