import type { NamedAttrMap, NamedTensorInfoMap, TensorInfo } from '@tensorflow/tfjs-core';
import type { CpuBackend } from '../backend.js';

export interface KernelCall {
  readonly inputs: NamedTensorInfoMap;
  readonly attrs: NamedAttrMap;
  readonly backend: CpuBackend;
}

/**
 * A kernel that replaces one of tfjs. `undefined` means that the plain kernel should run instead: the tensors are
 * too small to be worth a call into ONNX Runtime, or of a type that is not covered.
 */
export type NativeKernel = (call: KernelCall) => TensorInfo | TensorInfo[] | undefined;

/** Under this many elements the plain JavaScript loop is faster than the 10 µs of a native call. */
export const WORTH_A_CALL = 1024;

export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** The input called `name`. */
export function input(call: KernelCall, name: string): TensorInfo {
  const tensor = call.inputs[name];
  if (!tensor) throw new Error(`Missing input ${name}`);
  return tensor;
}

export function isFloat(...tensors: readonly TensorInfo[]): boolean {
  return tensors.every((tensor) => tensor.dtype === 'float32');
}

/** The inputs of a kernel that takes any number of them, in order. */
export function allInputs({ inputs }: KernelCall): TensorInfo[] {
  return Object.values(inputs).filter((tensor) => tensor !== undefined);
}
