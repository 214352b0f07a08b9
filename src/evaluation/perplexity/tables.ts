/** The table of `yoco perplexity`. */
import { MODEL_COLUMNS, type ModelKey } from '../../sweep/model-key.js';
import type { Column } from '../../results/schema.js';
import type { TableSchema } from '../../results/typed.js';
import { WEIGHTS_COLUMN, type WeightsOrigin } from '../candidates.js';

export interface PerplexityKey extends ModelKey {
  /** Name of the document, or `MEAN`. */
  readonly document: string;
  /** Tokens of the document read. */
  readonly position: number;
}

/** Losses in nats per token. */
export interface LossFigures {
  readonly tokens: number;
  readonly loss: number;
  readonly perplexity: number;
  readonly lossSinceLast: number;
  /** Tokens that complete a bigram the document has shown before; null in a mean of documents some of which have none. */
  readonly recallTokens: number | null;
  readonly recallLoss: number | null;
  readonly firstLoss: number | null;
}

export interface PerplexityFigures extends LossFigures {
  readonly weights: WeightsOrigin;
  /** In a mean. */
  readonly documents: number | null;
  /** Standard errors of a mean over documents. */
  readonly lossError: number | null;
  readonly sinceLastError: number | null;
  readonly bitsPerByte: number | null;
  /** Null in a mean. */
  readonly tokensPerSecond: number | null;
}

export const DOCUMENT_COLUMN: Column<'document'> = {
  name: 'document',
  kind: 'key',
  description: 'file, or mean: the mean over the documents that are so long',
};

export const PERPLEXITY_SCHEMA: TableSchema<PerplexityKey, PerplexityFigures> = {
  name: 'perplexity',
  columns: [
    ...MODEL_COLUMNS,
    DOCUMENT_COLUMN,
    { name: 'position', kind: 'key', description: 'tokens of the document read', display: 'count' },
    WEIGHTS_COLUMN,
    { name: 'documents', kind: 'result', description: 'documents in a mean' },
    { name: 'tokens', kind: 'result', description: 'tokens with a loss', display: 'count' },
    {
      name: 'loss',
      kind: 'result',
      description: 'mean loss of all tokens up to the position, nats per token',
      digits: 6,
      better: 'lower',
    },
    {
      name: 'loss_error',
      kind: 'result',
      description: 'standard error of a mean over documents',
      digits: 6,
    },
    { name: 'perplexity', kind: 'result', description: 'exp of the loss', digits: 4, better: 'lower' },
    {
      name: 'loss_since_last',
      kind: 'result',
      description: 'mean loss of the tokens after the position before, nats per token',
      digits: 6,
      better: 'lower',
    },
    {
      name: 'since_last_error',
      kind: 'result',
      description: 'standard error of a mean over documents',
      digits: 6,
    },
    {
      name: 'bits_per_byte',
      kind: 'result',
      description: 'loss in bits over the bytes of the text read: comparable over tokenizers',
      digits: 6,
      better: 'lower',
    },
    {
      name: 'recall_tokens',
      kind: 'result',
      description: 'AR-Hit: tokens that complete a bigram the document has shown before',
      display: 'count',
    },
    {
      name: 'recall_loss',
      kind: 'result',
      description: 'AR-Hit: their mean loss, nats per token',
      digits: 6,
      better: 'lower',
    },
    {
      name: 'first_loss',
      kind: 'result',
      description: 'First-Occur: mean loss of the other tokens, nats per token',
      digits: 6,
      better: 'lower',
    },
    {
      name: 'tokens_per_second',
      kind: 'timing',
      description: 'rate over the whole document',
      digits: 1,
      better: 'higher',
    },
  ],
};

/** The name of the row that is the mean over documents. */
export const MEAN = 'mean';
