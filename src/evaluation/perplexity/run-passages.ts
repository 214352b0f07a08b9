/** Measures several models on the passages of several documents. */
import { UsageError } from '../../errors.js';
import { CellTable, rowOf, type TableSchema } from '../../results/typed.js';
import { ResultWriter } from '../../results/writer.js';
import { MODEL_COLUMNS, type ModelKey } from '../../sweep/model-key.js';
import { estimateMean, mean } from '../../sweep/statistics.js';
import {
  remarkContext,
  weightsCell,
  WEIGHTS_COLUMN,
  type Candidate,
  type WeightsOrigin,
} from '../candidates.js';
import { requireScoringMemory } from '../scoring/memory.js';
import { engineIdentity } from '../session.js';
import { loadDocuments, type TokenDocument } from './documents.js';
import { PASSAGE_TOKENS, passageDocumentTokens, passageLosses, type PassageLoss } from './passages.js';
import type { PerplexityRun } from './run.js';

export interface PassageKey extends ModelKey {
  /** Tokens before each passage. */
  readonly context: number;
}

export interface PassageFigures {
  readonly weights: WeightsOrigin;
  readonly documents: number;
  readonly tokens: number;
  /** Means over documents, in nats per token, and their standard errors: null for one document. */
  readonly loss: number;
  readonly lossError: number | null;
  readonly perplexity: number;
  readonly answerTokens: number;
  /** Null where there are no answers. */
  readonly answerLoss: number | null;
  readonly answerError: number | null;
  readonly answerPerplexity: number | null;
}

const NATS = { kind: 'result', digits: 6 } as const;

export const PASSAGES_SCHEMA: TableSchema<PassageKey, PassageFigures> = {
  name: 'passages',
  columns: [
    ...MODEL_COLUMNS,
    { name: 'context', kind: 'key', description: 'tokens before each passage', display: 'count' },
    WEIGHTS_COLUMN,
    { name: 'documents', kind: 'result', description: 'with passages' },
    { name: 'tokens', kind: 'result', description: 'of all passages', display: 'count' },
    { name: 'loss', ...NATS, description: 'mean over documents, nats per token', better: 'lower' },
    { name: 'loss_error', ...NATS, description: 'standard error over documents' },
    { name: 'perplexity', kind: 'result', description: 'exp of the loss', digits: 4, better: 'lower' },
    {
      ...{ name: 'answer_tokens', kind: 'result', display: 'count' },
      description: 'tokens that complete a bigram of the longest context, but of none of the shortest',
    },
    {
      name: 'answer_loss',
      ...NATS,
      description: 'their mean over documents, nats per token',
      better: 'lower',
    },
    { name: 'answer_error', ...NATS, description: 'standard error over documents' },
    { name: 'answer_perplexity', kind: 'result', description: 'exp of it', digits: 4, better: 'lower' },
  ],
};

export interface PassageRun extends Omit<PerplexityRun, 'positions'> {
  /** Tokens before a passage: two or more, of which the longest and the shortest say what an answer is. */
  readonly contexts: readonly number[];
  /** Passages of a document. */
  readonly passages: number;
}

/**
 * Documents that are too short for the longest context are left out, and named.
 * @throws UsageError for fewer than two contexts, or where no document is long enough; RunError where memory does not suffice
 */
export async function runPassages(run: PassageRun): Promise<ResultWriter> {
  const contexts = [...new Set(run.contexts)].sort((a, b) => a - b);
  if (contexts.length < 2) throw new UsageError('passages need two contexts or more: --ctx 1k,4k,16k');
  const options = { contexts, passages: run.passages };
  const longest = passageDocumentTokens(options);
  const loaded = new Map<string, TokenDocument[]>();
  try {
    for (const { tokenizer } of run.candidates) {
      if (!loaded.has(tokenizer.name))
        loaded.set(tokenizer.name, await documentsFor(run, tokenizer, longest));
    }
    for (const candidate of run.candidates) {
      requireScoringMemory(run.engine, candidate.choice, longest + 1, run.communicator?.size);
      remarkContext(run.note, candidate, longest + 1);
    }
    const documentsOf = ({ tokenizer }: Candidate): TokenDocument[] => loaded.get(tokenizer.name) ?? [];
    const keys = run.candidates.flatMap(({ key }) => contexts.map((context) => ({ ...key, context })));
    const writer = ResultWriter.open(run.directory, PASSAGES_SCHEMA, {
      settings: {
        ...{ contexts, passages: run.passages, length: PASSAGE_TOKENS, engine: engineIdentity(run.engine) },
        models: run.candidates.map(({ settings }) => settings),
        documents: run.candidates.map((candidate) => documentsOf(candidate).map(({ sha256 }) => sha256)),
      },
      provenance: run.provenance,
      resume: run.resume,
      plan: keys.map((key) => rowOf(PASSAGES_SCHEMA, key)),
    });
    const table = new CellTable(PASSAGES_SCHEMA, writer);
    for (const candidate of run.candidates) {
      if (contexts.every((context) => table.has({ ...candidate.key, context }))) continue;
      const losses = await measure(run, candidate, documentsOf(candidate), options);
      contexts.forEach((context, index) => {
        const own = losses.map((document) => document[index] as PassageLoss);
        table.append({ ...candidate.key, context, ...weightsCell(candidate), ...figures(own) });
      });
    }
    return writer;
  } finally {
    for (const { tokens } of [...loaded.values()].flat()) tokens.dispose();
  }
}

async function documentsFor(
  { files, note }: PassageRun,
  tokenizer: Candidate['tokenizer'],
  longest: number,
): Promise<TokenDocument[]> {
  const all = await loadDocuments(files, tokenizer);
  const fitting = all.filter(({ length }) => length >= longest);
  const rest = all.filter((document) => !fitting.includes(document));
  for (const { tokens } of rest) tokens.dispose();
  if (fitting.length === 0) {
    throw new UsageError(
      `no document has the ${longest} tokens of the longest context and a passage: use longer documents or a shorter --ctx`,
    );
  }
  if (rest.length > 0) {
    note(`left out, shorter than ${longest} tokens: ${rest.map(({ name }) => name).join(', ')}`);
  }
  return fitting;
}

/** Of each document, for each context. */
async function measure(
  run: PassageRun,
  candidate: Candidate,
  documents: readonly TokenDocument[],
  options: { readonly contexts: readonly number[]; readonly passages: number },
): Promise<PassageLoss[][]> {
  const model = await candidate.open();
  const perPassage = options.contexts.reduce((sum, context) => sum + context + PASSAGE_TOKENS, 0);
  const total = perPassage * options.passages * documents.length;
  try {
    const losses: PassageLoss[][] = [];
    for (const [index, document] of documents.entries()) {
      const before = index * perPassage * options.passages;
      losses.push(
        await passageLosses(model, candidate.tokenizer, document, options, (tokens) => {
          run.onProgress?.({ candidate, document: document.name, done: before + tokens, total });
        }),
      );
    }
    return losses;
  } finally {
    model.dispose();
  }
}

function figures(losses: readonly PassageLoss[]): Omit<PassageFigures, 'weights'> {
  const all = estimateMean(losses.map(({ nats, tokens }) => nats / tokens));
  const answered = losses.filter(({ answerTokens }) => answerTokens > 0);
  const means = answered.map(({ answerNats, answerTokens }) => answerNats / answerTokens);
  const answerLoss = means.length === 0 ? null : mean(means);
  return {
    documents: losses.length,
    tokens: losses.reduce((sum, { tokens }) => sum + tokens, 0),
    ...{ loss: all.mean, lossError: all.standardError, perplexity: Math.exp(all.mean) },
    answerTokens: losses.reduce((sum, { answerTokens }) => sum + answerTokens, 0),
    answerLoss,
    answerError: means.length === 0 ? null : estimateMean(means).standardError,
    answerPerplexity: answerLoss === null ? null : Math.exp(answerLoss),
  };
}
