/** Columns that the tables of training steps share. */
export const MODEL = [
  { name: 'model', kind: 'key', description: 'preset' },
  { name: 'architecture', kind: 'key', description: 'yoco or transformer' },
] as const;

export const TOKENS_PER_STEP = {
  name: 'tokens_per_step',
  kind: 'result',
  description: 'batch times length, of all ranks',
} as const;

export const SECONDS = {
  name: 'seconds',
  kind: 'timing',
  description: 'one step of `yoco train`: losses, gradients, clipping, AdamW; median, of the first rank',
  digits: 6,
} as const;

export const TOKENS_PER_SECOND = {
  name: 'tokens_per_second',
  kind: 'timing',
  description: 'of all ranks',
  digits: 0,
} as const;

export const PEAK_BYTES = {
  name: 'peak_bytes',
  kind: 'timing',
  description: 'largest sum of all tensors, of the first rank',
  display: 'bytes',
} as const;

export const LAST_LOSS = {
  name: 'last_loss',
  kind: 'timing',
  description: 'nats per token, the same tokens again and again',
  digits: 4,
} as const;
