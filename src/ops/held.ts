/**
 * Releases what work that fails leaves on the engine. A tidy does so for work that waits for nothing and keeps nothing; this is for
 * whole measurements, whose caches, prompts and recorded steps outlive every tidy.
 */
import * as tf from '../tf.js';

/** What takes memory of the engine until it is disposed of: a tensor, or a recorded step. Disposing twice does no harm. */
export interface Holding {
  dispose(): void;
}

/** What was made by each work under way and still exists, the outermost work first. */
const scopes: Set<Holding>[] = [];

/** Notes what is no tensor, for as long as it exists. */
export function hold(holding: Holding): void {
  scopes.at(-1)?.add(holding);
}

/** It was disposed of. */
export function unhold(holding: Holding): void {
  // Nearly always it is of the innermost work.
  for (let depth = scopes.length - 1; depth >= 0; depth--) if (scopes[depth]?.delete(holding)) return;
}

/**
 * Runs `work`. If it fails, every tensor and recorded step made meanwhile is disposed of, kept tensors and variables too. Where it
 * succeeds they stay with their owners. Work inside of work is allowed, work beside it is not.
 * @param isFailure whether a result is a failure as well
 */
export async function releasedOnFailure<T>(
  work: () => Promise<T>,
  isFailure: (result: T) => boolean = () => false,
): Promise<T> {
  const own = begin();
  let succeeds = false;
  try {
    const result = await work();
    succeeds = !isFailure(result);
    return result;
  } finally {
    end(own, succeeds);
  }
}

/** The same of work that waits for nothing. tfjs leaves what it had saved for a backward pass when the forward pass fails. */
export function releasedOnError<T>(work: () => T): T {
  const own = begin();
  let succeeds = false;
  try {
    const result = work();
    succeeds = true;
    return result;
  } finally {
    end(own, succeeds);
  }
}

function begin(): Set<Holding> {
  const own = new Set<Holding>();
  if (scopes.push(own) === 1) watchTensors();
  return own;
}

function end(own: Set<Holding>, succeeds: boolean): void {
  if (scopes.at(-1) !== own) throw new Error('work that is released on failure overlaps');
  if (!succeeds) for (const holding of [...own].reverse()) holding.dispose();
  scopes.pop();
  const outer = scopes.at(-1);
  if (outer === undefined) unwatchTensors();
  else for (const holding of own) outer.add(holding);
}

/** Has tfjs tell of every tensor that is made or disposed of. Outside of such work it costs nothing. */
function watchTensors(): void {
  const engine = tf.engine();
  const methods = Object.getPrototypeOf(engine) as typeof engine;
  engine.trackTensor = (tensor, backend) => {
    methods.trackTensor.call(engine, tensor, backend);
    hold(tensor);
  };
  engine.disposeTensor = (tensor) => {
    methods.disposeTensor.call(engine, tensor);
    unhold(tensor);
  };
}

/** The methods of the class show again. */
function unwatchTensors(): void {
  const engine: Partial<ReturnType<typeof tf.engine>> = tf.engine();
  delete engine.trackTensor;
  delete engine.disposeTensor;
}
