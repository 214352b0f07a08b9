/**
 * Successive products with few rows of a recorded step, with the norms in front of them, as one launch: gemv_chain.cu. Nothing
 * is launched before something else must be queued, for which `CudaBackend` has the chain flushed.
 */
import { type Driver, isHopperOrNewer } from './driver.js';
import { type KernelArgument, int32, pointer } from './launch.js';
import type { Device } from './device.js';
import { STORAGE_BYTES } from './sources.js';
import { STAGE } from './structs.js';
import { TILES } from './tiles.js';

const { STAGES, THREADS, SLOTS, PACKS } = TILES.gemv_chain;
/** Bytes of the rings of all warps, in packs of 16. */
const RING_BYTES = (THREADS / 32) * SLOTS * PACKS * 16;
/** What each block takes besides: a KiB for the driver, and sums over a block. */
const STATIC_BYTES = 2048;

/** RMSNorm of x at device addresses, 0 for none. */
export interface ChainedNorm {
  readonly x: number;
  readonly scale: number;
  readonly gate: number;
  readonly y: number;
  /** Bytes of x, which are those of the gate and of y. */
  readonly bytes: number;
  /** Packs of a row, and threads that share one; 0: the block. */
  readonly packs: number;
  readonly lanes: number;
  readonly eps: number;
}

/** Products of x [rows, inner] with weights [width, inner] at device addresses, or SwiGLU of two; 0 for no residual. */
export interface ChainedGemv {
  readonly x: number;
  readonly rows: number;
  readonly inner: number;
  readonly weights: readonly number[];
  readonly outs: readonly number[];
  readonly widths: readonly number[];
  readonly residual: number;
  readonly swiglu: boolean;
}

interface Stage {
  readonly product: ChainedGemv;
  readonly norm: ChainedNorm | null;
}

/** Whether the GPU has the asynchronous copies of Hopper, and blocks of gemv_chain.cu fit: then there is one a multiprocessor. */
export function canChain({ architecture, sharedBytes }: Driver): boolean {
  return isHopperOrNewer(architecture) && sharedBytes >= RING_BYTES + STATIC_BYTES;
}

export class GemvChain {
  private readonly elementBytes: number;
  private stages: Stage[] = [];
  private norm: { readonly norm: ChainedNorm; readonly launch: () => void } | null = null;

  /** @param arrivals address of a 64-bit counter that starts as 0 and that only chains of this stream change */
  constructor(
    private readonly device: Device,
    private readonly arrivals: number,
  ) {
    this.elementBytes = STORAGE_BYTES[device.storage];
  }

  /**
   * Takes a norm, for the matmul after it.
   * @param launch launches it, if what follows is something else
   */
  addNorm(norm: ChainedNorm, launch: () => void): void {
    if (this.norm !== null) this.flush();
    this.norm = { norm, launch };
  }

  /** @returns whether the chain takes the product; otherwise everything before it has been launched */
  add(product: ChainedGemv): boolean {
    const { rows, inner } = product;
    const bytes = rows * inner * this.elementBytes;
    const fits = RING_BYTES + bytes + STATIC_BYTES <= this.device.driver.sharedBytes;
    const norm = this.norm?.norm ?? null;
    const isNormed = norm !== null && norm.y === product.x && norm.bytes === bytes;
    const outBytes = product.widths.map((width) => rows * width * this.elementBytes);
    // A block may write its outputs while others still read what they norm.
    const isSafe =
      isNormed &&
      !product.outs.some((out, i) =>
        [norm.x, norm.gate].some((from) => from < out + (outBytes[i] ?? 0) && out < from + bytes),
      );
    const differs = this.stages[0] !== undefined && this.stages[0].product.rows !== rows;
    if (!fits || differs || this.stages.length === STAGES || (norm !== null && !isSafe)) this.flush();
    if (!fits) return false;
    this.stages.push({ product, norm: this.norm === null ? null : norm });
    this.norm = null;
    return true;
  }

  /** Launches what has been taken. */
  flush(): void {
    const { stages, norm } = this;
    this.stages = [];
    this.norm = null;
    if (stages.length > 0) this.launch(stages);
    norm?.launch();
  }

  private launch(stages: readonly Stage[]): void {
    const { device, arrivals } = this;
    const rows = stages[0]?.product.rows ?? 0;
    const widest = Math.max(...stages.map(({ product }) => product.inner));
    const args = [table(stages), pointer(arrivals), int32(stages.length), int32(rows)];
    const kernel = { file: 'gemv_chain', name: rows === 1 ? 'gemv_chain_one' : 'gemv_chain', early: true };
    const shared = RING_BYTES + rows * widest * this.elementBytes;
    device.launch(kernel, [device.driver.multiprocessors], THREADS, args, shared);
  }
}

/** `Stages` of gemv_chain.cu. */
function table(stages: readonly Stage[]): KernelArgument {
  return { kind: 'bytes', value: STAGE.table(stages.map(fieldsOf), STAGES), alignment: STAGE.alignment };
}

function fieldsOf({ product, norm }: Stage) {
  const { x, weights, outs, widths, inner, residual, swiglu } = product;
  return {
    x: norm?.x ?? x,
    scale: norm?.scale ?? 0,
    gate: norm?.gate ?? 0,
    normed: norm?.y ?? 0,
    residual,
    weights,
    outs,
    widths,
    inner,
    members: swiglu ? 1 : widths.length,
    swiglu: Number(swiglu),
    packs: norm?.packs ?? 0,
    lanes: norm?.lanes ?? 0,
    eps: norm?.eps ?? 0,
  };
}
