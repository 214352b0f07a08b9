/** The heads of YOCO's self-decoder: a field that several mixers share. */
import { UsageError } from '../../errors.js';
import type { FieldReader } from '../config-fields.js';
import type { Shape } from './mixer.js';

export interface SelfHeadFields {
  /** Heads of the mixers of constant state; their width is dim / selfHeads. Default: `heads`. */
  readonly selfHeads: number;
}

export function readSelfHeads(fields: FieldReader, { dim, heads }: Shape): number {
  const selfHeads = fields.positiveInteger('selfHeads', heads);
  requireEvenHead('selfHeads', dim, selfHeads);
  return selfHeads;
}

/** @throws UsageError unless `heads` divide `dim` into heads that rotary pairs fill */
export function requireEvenHead(name: string, dim: number, heads: number): void {
  if (dim % heads === 0 && (dim / heads) % 2 === 0) return;
  throw new UsageError(
    `configuration: ${name} (${heads}) must divide dim (${dim}) into heads of an even width (rotary pairs)`,
  );
}
