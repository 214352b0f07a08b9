import { type KernelFunc, type NamedAttrMap, type TensorInfo, registerKernel } from '../../../tf.js';
import {
  type FusedKernel,
  type KernelName,
  type Kernels,
  registerFusedKernel,
} from '../../../ops/kernels.js';
import { CUDA_BACKEND, type CudaBackend } from '../backend.js';

/** What a kernel computes, with its inputs, its attributes and the backend. */
export type CudaKernel = (
  inputs: Record<string, TensorInfo>,
  attrs: NamedAttrMap,
  backend: CudaBackend,
) => TensorInfo | TensorInfo[];

/** Registers `kernel` under a tfjs kernel name for the cuda backend. */
export function register(kernelName: string, kernel: CudaKernel): void {
  const kernelFunc: KernelFunc = ({ inputs, attrs, backend: any }) => {
    const backend = any as unknown as CudaBackend;
    return backend.undoneOnFailure(() =>
      kernel(inputs as unknown as Record<string, TensorInfo>, attrs ?? {}, backend),
    );
  };
  registerKernel({ kernelName, backendName: CUDA_BACKEND, kernelFunc });
}

/** Registers a fused kernel. @param takes whether it takes such inputs; others are composed. Default: all */
export function registerFusedOp<Name extends KernelName>(
  name: Name,
  kernel: FusedKernel<Name, CudaBackend>,
  takes?: (inputs: Kernels[Name]['inputs']) => boolean,
): void {
  const undone: FusedKernel<Name, CudaBackend> = (inputs, attrs, backend) =>
    backend.undoneOnFailure(() => kernel(inputs, attrs, backend));
  registerFusedKernel(CUDA_BACKEND, name, undone, takes);
}

/** Registers several kernels; an input list named `0, 1, …` (Concat and its kin) arrives as the object tfjs makes. */
export function registerAll(kernels: Readonly<Record<string, CudaKernel>>): void {
  for (const [name, kernel] of Object.entries(kernels)) register(name, kernel);
}

export function input(inputs: Record<string, TensorInfo>, name: string): TensorInfo {
  const found = inputs[name];
  if (found === undefined) throw new Error(`kernel input ${name} is missing`);
  return found;
}

/** Inputs NAME0, NAME1, … */
export function numbered(
  inputs: Readonly<Record<string, TensorInfo>>,
  name: string,
  count: number,
): TensorInfo[] {
  return Array.from({ length: count }, (_, i) => inputs[`${name}${i}`] as TensorInfo);
}
