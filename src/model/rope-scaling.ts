import { UsageError } from '../errors.js';
import type { FieldReader } from './config-fields.js';

/** Scaling of rotary frequencies by which Llama checkpoints stretch their context (Hugging Face `rope_scaling`). */
export type RopeScaling =
  | { readonly type: 'linear'; readonly factor: number }
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      readonly originalContext: number;
    };

/** @throws UsageError naming the field and what it may be */
export function readScaling(fields: FieldReader): RopeScaling | null {
  if (!fields.has('ropeScaling')) return null;
  const scaling = fields.object('ropeScaling');
  const type = scaling.choice('type', ['linear', 'llama3'] as const);
  const factor = scaling.positiveNumber('factor');
  const result: RopeScaling =
    type === 'linear'
      ? { type, factor }
      : {
          type,
          factor,
          lowFrequencyFactor: scaling.positiveNumber('lowFrequencyFactor', 1),
          highFrequencyFactor: scaling.positiveNumber('highFrequencyFactor', 4),
          originalContext: scaling.positiveInteger('originalContext', 8192),
        };
  scaling.rejectUnknown(Object.keys(result));
  if (result.type === 'llama3' && result.highFrequencyFactor <= result.lowFrequencyFactor) {
    throw new UsageError('configuration: ropeScaling.highFrequencyFactor must exceed lowFrequencyFactor');
  }
  return result;
}
