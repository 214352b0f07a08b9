/** Flags the evaluating commands share. Light: every command imports it at start-up. */
import { Flags } from '@oclif/core';
import { inferenceFlags, modelFlags, tokenCountFlag } from './flags.js';
import { parseBatch } from './sizes.js';

const tokenizerFlag = Flags.string({
  description:
    "bytes, cl100k_base, a tokenizer.json, or hf:owner/name (default: the checkpoint's, or by size of the vocabulary)",
  helpGroup: 'MODEL',
});

export const evaluationFlags = { ...modelFlags, ...inferenceFlags, tokenizer: tokenizerFlag };

export const maxContextFlag = tokenCountFlag({
  description: 'longest prompt in tokens (default: what the checkpoint was trained on, if it says)',
  helpValue: '2k',
});

/** Sequences computed together. */
export const batchFlag = Flags.custom<number | 'auto'>({
  description: 'sequences computed in one pass at most, packed without padding; auto: as many as fit',
  default: 'auto',
  helpValue: 'N|auto',
  parse: (text) => Promise.resolve(parseBatch(text)),
});

/** `a,b,c`, without empty parts. */
export const listFlag = Flags.custom<string[]>({
  parse: (text) =>
    Promise.resolve(
      text
        .split(',')
        .map((part) => part.trim())
        .filter(Boolean),
    ),
});
