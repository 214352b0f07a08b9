/** Figures made from logits that are NaN or infinite are no figures: the cell fails instead. */
import { RunError } from '../../errors.js';
import * as tf from '../../tf.js';

const notFinite = (detail: string): RunError =>
  new RunError(
    `the model's logits are not finite${detail}: its weights are damaged, or values overflow the storage type ` +
      `(if so, --dtype float32 helps)`,
  );

/**
 * The value itself.
 * @param what names it in the message, `a loss`
 * @throws RunError when it is NaN or infinite
 */
export function requireFinite(value: number, what: string): number {
  if (Number.isFinite(value)) return value;
  throw notFinite(` (${what} is ${value})`);
}

/**
 * Checks every value of some logits, which stay the caller's.
 * @throws RunError when one is NaN or infinite
 */
export async function requireFiniteLogits(logits: tf.Tensor): Promise<void> {
  const check = finiteCheck(logits);
  try {
    await requireFiniteCheck(check);
  } finally {
    check.dispose();
  }
}

/** @throws RunError unless every logit of a row that has been read is a finite number */
export function requireFiniteRow(logits: Float32Array): void {
  if (!logits.every(Number.isFinite)) throw notFinite('');
}

/** A scalar that is 0 where all logits are finite, else NaN; the caller's. */
export const finiteCheck = (logits: tf.Tensor): tf.Tensor =>
  // Zero times a finite value is zero; times NaN or infinity it is NaN, which every sum keeps.
  tf.tidy(() => tf.sum(tf.mul(logits, 0)));

/** @param check what `finiteCheck` gave. @throws RunError when a logit is NaN or infinite */
export async function requireFiniteCheck(check: tf.Tensor): Promise<void> {
  const [value = NaN] = await check.data();
  if (!Number.isFinite(value)) throw notFinite('');
}
