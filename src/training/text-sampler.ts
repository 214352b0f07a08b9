/** The batches of one stage of text, from one source or a mixture of several. */
import * as v from 'valibot';
import { BatchSampler } from '../data/batch-sampler.js';
import { documentRanges, type DocumentRange, type LongDocuments } from '../data/document-ends.js';
import { DocumentSampler, type DocumentBatch } from '../data/document-sampler.js';
import type { TokenStore } from '../data/token-store.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { UsageError } from '../errors.js';
import { checkShape } from '../files/json.js';
import type { Json } from '../results/canonical.js';
import type { TextStage } from './stages.js';
import { windowBatch, type Batch } from './task.js';

/** A source that is encoded. */
export interface EncodedSource {
  readonly name: string;
  readonly tokens: TokenStore;
  readonly bytesPerToken: number;
  /** Of the tokens trained on. */
  readonly share: number;
}

export interface StageOptions {
  readonly stage: TextStage;
  readonly sources: readonly EncodedSource[];
  readonly tokenizer: Tokenizer;
  /** Of the stage; that of a source among several is told apart by its name. */
  readonly seed: string;
}

/** Sequences of a mixture: of each source as many tokens as its share, as evenly as can be. */
export interface StageSampler {
  next(): Batch;
  /** Tokens predicted so far of each source. */
  readonly drawn: readonly number[];
  state(): Json;
  /** @throws UsageError for what is no state of such a sampler */
  restore(state: Json): void;
}

const COUNT = v.pipe(v.number(), v.safeInteger('expected a whole number'), v.minValue(0));
const CURSORS = v.array(v.object({ epoch: COUNT, window: COUNT, drawn: COUNT }));

interface Cursor {
  readonly epoch: number;
  readonly window: number;
}

/** What the samplers of both kinds have in common. */
interface Resumable {
  cursor(): Cursor;
  seek(cursor: Cursor): void;
}

/** @throws UsageError where a source has no documents as the stage asks for, or fewer tokens than a sequence */
export function stageSampler(options: StageOptions): StageSampler {
  const { stage, sources, tokenizer, seed } = options;
  const { batch, length, longDocuments: times = 1 } = stage;
  const apart = stage.documents === 'apart';
  const seedOf = (name: string): string => (sources.length === 1 ? seed : `${seed}/${name}`);
  const rangesOf = ({ tokens }: EncodedSource): readonly DocumentRange[] =>
    apart || times !== 1 ? documentRanges(tokens, tokenizer) : [];
  if (apart) return new ApartSampler(sources, sources.map(apartSampler));
  return new JoinedSampler(stage, sources, sources.map(joinedSampler));

  function apartSampler(source: EncodedSource): DocumentSampler {
    const { beginOfText, endOfText } = tokenizer;
    const ranges = rangesOf(source);
    const begin = beginOfText ?? endOfText ?? 0;
    const { tokens, name } = source;
    return inSource(sources, name, () => {
      return new DocumentSampler({
        ...{ tokens, ranges, begin, batch, length },
        ...{ seed: seedOf(name), longDocuments: times },
      });
    });
  }

  function joinedSampler(source: EncodedSource): BatchSampler {
    const { tokens, name } = source;
    const longDocuments = times === 1 ? undefined : { ranges: rangesOf(source), times };
    return inSource(sources, name, () => {
      return new BatchSampler({ tokens, batch, length, seed: seedOf(name), longDocuments });
    });
  }
}

/** Names the source in errors where there are several. */
function inSource<T>(sources: readonly EncodedSource[], name: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof UsageError) || sources.length === 1) throw error;
    throw new UsageError(`source '${name}': ${error.message}`, { cause: error });
  }
}

abstract class MixtureSampler<S extends Resumable> implements StageSampler {
  readonly drawn: number[];

  constructor(
    protected readonly sources: readonly EncodedSource[],
    protected readonly samplers: readonly S[],
  ) {
    this.drawn = sources.map(() => 0);
  }

  abstract next(): Batch;

  /** The source that is furthest behind its share. */
  protected choose(): number {
    const behind = this.sources.map(({ share }, index) => (this.drawn[index] as number) / share);
    return behind.indexOf(Math.min(...behind));
  }

  protected bytes(index: number, tokens: number): number {
    return tokens * (this.sources[index]?.bytesPerToken ?? 0);
  }

  state(): Json {
    return this.samplers.map((sampler, i) => ({ ...sampler.cursor(), drawn: this.drawn[i] ?? 0 }));
  }

  restore(state: Json): void {
    const cursors = checkShape('the data cursor of the checkpoint', state, CURSORS);
    if (cursors.length !== this.samplers.length) {
      throw new UsageError('the data cursor of the checkpoint is not one of this task');
    }
    cursors.forEach(({ drawn, ...cursor }, index) => {
      this.samplers[index]?.seek(cursor);
      this.drawn[index] = drawn;
    });
  }
}

/** Windows of the texts, row by row from the sources. */
class JoinedSampler extends MixtureSampler<BatchSampler> {
  constructor(
    private readonly stage: TextStage,
    sources: readonly EncodedSource[],
    samplers: readonly BatchSampler[],
  ) {
    super(sources, samplers);
  }

  next(): Batch {
    const { batch, length } = this.stage;
    const windows = new Int32Array(batch * (length + 1));
    let bytes = 0;
    for (let row = 0; row < batch; row++) {
      const index = this.choose();
      this.samplers[index]?.fill(windows.subarray(row * (length + 1), (row + 1) * (length + 1)));
      this.drawn[index] = (this.drawn[index] ?? 0) + length;
      bytes += this.bytes(index, length);
    }
    return { ...windowBatch(windows, batch), bytes };
  }
}

/** Parts of documents; a batch is of one source. */
class ApartSampler extends MixtureSampler<DocumentSampler> {
  next(): Batch {
    const index = this.choose();
    const batch = documentBatch((this.samplers[index] as DocumentSampler).next());
    const filled = batch.filled ?? 0;
    this.drawn[index] = (this.drawn[index] ?? 0) + filled;
    return { ...batch, bytes: this.bytes(index, filled) };
  }
}

/** Every predicted token counts the same, padding nothing. */
function documentBatch({ rows, width, tokens, targets, counts }: DocumentBatch): Batch {
  const filled = counts.reduce((sum, count) => sum + count, 0);
  const weights = new Float32Array(rows * width);
  counts.forEach((count, row) => weights.fill(1 / filled, row * width, row * width + count));
  return { rows, length: width, tokens, targets, positions: null, weights, answers: null, filled };
}

export type { LongDocuments };
