/** Measures several models on several documents. */
import { runCell } from '../../sweep/cell.js';
import { estimateMean, mean } from '../../sweep/statistics.js';
import { SOLO } from '../../distributed/communicator.js';
import type { Engine } from '../../engines/engine.js';
import { RunError, UsageError } from '../../errors.js';
import type { LanguageModel } from '../../model/language-model.js';
import { CellTable, cellOf, rowOf, type TableCell } from '../../results/typed.js';
import { ResultWriter } from '../../results/writer.js';
import { remarkContext, weightsCell, type Candidate } from '../candidates.js';
import { requireScoringMemory } from '../scoring/memory.js';
import { loadDocuments, type TokenDocument } from './documents.js';
import { documentLosses, doublingPositions, type PositionLoss } from './perplexity.js';
import {
  MEAN,
  PERPLEXITY_SCHEMA,
  type LossFigures,
  type PerplexityFigures,
  type PerplexityKey,
} from './tables.js';
import { engineIdentity, type Session } from '../session.js';

export interface PerplexityRun extends Session {
  /** Corpora, files, globs, directories. */
  readonly files: readonly string[];
  /** Positions; null: doubling from 256 to each document's end. */
  readonly positions: readonly number[] | null;
  /** Where the table is written. */
  readonly directory: string;
  /** Keep the positions that an earlier run has measured. */
  readonly resume: boolean;
  readonly onProgress?: (progress: PerplexityProgress) => void;
  /** A remark for the person who waits. */
  readonly note: (line: string) => void;
}

/** How far a run is, in tokens; documents of an earlier run do not count. */
export interface PerplexityProgress {
  readonly candidate: Candidate;
  /** The document at work. */
  readonly document: string;
  readonly done: number;
  readonly total: number;
}

type Table = CellTable<PerplexityKey, PerplexityFigures>;

interface Job {
  readonly candidate: Candidate;
  readonly document: TokenDocument;
  readonly positions: readonly number[];
}

/**
 * @throws UsageError for documents shorter than every position, RunError when none fits the memory. A document that does not
 *   fit beside others that do, or whose losses are not finite, is failed rows.
 */
export async function runPerplexity(run: PerplexityRun): Promise<ResultWriter> {
  const jobs = await planJobs(run);
  try {
    const { size } = run.communicator ?? SOLO;
    const refusals = new Map(jobs.map((job) => [job, refusalOf(job, run.engine, size)]));
    const [refusal] = refusals.values();
    if (refusal && [...refusals.values()].every((reason) => reason !== null)) throw refusal;
    const jobsOf = run.candidates.map((candidate) => jobs.filter((job) => job.candidate === candidate));
    for (const [index, candidate] of run.candidates.entries()) {
      const positions = (jobsOf[index] ?? []).flatMap((job) => job.positions);
      remarkContext(run.note, candidate, Math.max(...positions));
    }
    const writer = openWriter(run, jobs, jobsOf.flatMap(planOf));
    const table: Table = new CellTable(PERPLEXITY_SCHEMA, writer);
    const isMissing = (job: Job): boolean =>
      !job.positions.every((position) => table.has(keyOf(job, position)));
    const missing = jobs.filter(isMissing);
    const total = missing.reduce((sum, { positions }) => sum + (positions.at(-1) ?? 0), 0);
    let done = 0;
    for (const own of jobsOf) {
      const report = (job: Job, tokens: number): void => {
        const { candidate, document } = job;
        run.onProgress?.({ candidate, document: document.name, done: done + tokens, total });
        if (tokens === job.positions.at(-1)) done += tokens;
      };
      const measuring = new Measuring(run.engine, refusals, table, report, size > 1);
      await measuring.all(own.filter((job) => missing.includes(job)));
      addMeans(own, table);
    }
    return writer;
  } finally {
    for (const { document } of jobs) document.tokens.dispose();
  }
}

function openWriter(
  { engine, directory, provenance, resume }: PerplexityRun,
  jobs: readonly Job[],
  plan: readonly PerplexityKey[],
): ResultWriter {
  const settings = new Map(jobs.map((job) => [documentText(keyOf(job, 0)), jobSettings(job, engine)]));
  return ResultWriter.open(directory, PERPLEXITY_SCHEMA, {
    settings: (row) =>
      settings.get(documentText(cellOf<PerplexityKey, PerplexityFigures>(PERPLEXITY_SCHEMA, row))) ?? [
        ...settings.values(),
      ],
    provenance,
    resume,
    plan: plan.map((key) => rowOf(PERPLEXITY_SCHEMA, key)),
  });
}

async function planJobs(run: PerplexityRun): Promise<Job[]> {
  const documents = new Map<string, TokenDocument[]>();
  const longest = run.positions === null ? Infinity : Math.max(...run.positions);
  const jobs: Job[] = [];
  for (const candidate of run.candidates) {
    const { tokenizer } = candidate;
    const own = documents.get(tokenizer.name) ?? (await loadDocuments(run.files, tokenizer, longest));
    documents.set(tokenizer.name, own);
    for (const document of own) {
      jobs.push({ candidate, document, positions: positionsOf(document, run.positions) });
    }
  }
  return jobs;
}

function positionsOf({ name, length }: TokenDocument, asked: readonly number[] | null): number[] {
  if (asked === null) return doublingPositions(length);
  const within = [...asked].filter((position) => position <= length).sort((a, b) => a - b);
  if (within.length > 0) return within;
  throw new UsageError(
    `${name} has ${length} tokens, fewer than the shortest position asked for, ${Math.min(...asked)}`,
  );
}

/** Why a document cannot be measured; null if it can. */
function refusalOf({ candidate, positions }: Job, engine: Engine, ranks: number): RunError | null {
  try {
    requireScoringMemory(engine, candidate.choice, positions.at(-1) ?? 0, ranks);
    return null;
  } catch (error) {
    if (error instanceof RunError) return error;
    throw error;
  }
}

const keyOf = ({ candidate, document }: Job, position: number): PerplexityKey => ({
  ...candidate.key,
  document: document.name,
  position,
});

const documentText = ({ model, architecture, selfDecoder, document }: PerplexityKey): string =>
  JSON.stringify([model, architecture, selfDecoder, document]);

const jobSettings = ({ candidate, document, positions }: Job, engine: Engine) => ({
  model: candidate.settings,
  document: document.sha256,
  positions,
  engine: engineIdentity(engine),
});

/** The cells of one model: its documents', and their means when there are several. */
function planOf(jobs: readonly Job[]): PerplexityKey[] {
  const [first] = jobs;
  if (first === undefined) return [];
  const keys = jobs.flatMap((job) => job.positions.map((position) => keyOf(job, position)));
  return [...keys, ...sharedPositions(jobs).map((position) => meanKey(first.candidate, position))];
}

const meanKey = ({ key }: Candidate, position: number): PerplexityKey => ({
  ...key,
  document: MEAN,
  position,
});

/** Positions that at least two documents reach. */
function sharedPositions(jobs: readonly Job[]): number[] {
  const all = jobs.flatMap(({ positions }) => positions);
  const several = [...new Set(all)].filter(
    (position) => all.filter((other) => other === position).length > 1,
  );
  return several.sort((a, b) => a - b);
}

/** Measures the documents of one model. */
class Measuring {
  private model: LanguageModel | null = null;

  constructor(
    private readonly engine: Engine,
    private readonly refusals: ReadonlyMap<Job, RunError | null>,
    private readonly table: Table,
    private readonly onTokens: (job: Job, tokens: number) => void,
    private readonly isOneOfSeveral: boolean,
  ) {}

  async all(jobs: readonly Job[]): Promise<void> {
    try {
      for (const job of jobs) {
        try {
          await this.one(job);
        } catch (error) {
          // Other ranks wait in the same document.
          if (this.isOneOfSeveral) throw error;
          for (const position of job.positions) this.table.fail(keyOf(job, position), error);
        }
      }
    } finally {
      this.model?.dispose();
    }
  }

  private async one(job: Job): Promise<void> {
    const { candidate, document, positions } = job;
    const refusal = this.refusals.get(job);
    if (refusal) throw refusal;
    const model = (this.model ??= await runCell(this.engine, () => candidate.open()));
    const { tokenizer } = candidate;
    const started = performance.now();
    const losses = await runCell(this.engine, () =>
      documentLosses(model, tokenizer, document.tokens, positions, (tokens) => {
        this.onTokens(job, tokens);
      }),
    );
    const rate = (positions.at(-1) ?? 0) / ((performance.now() - started) / 1000);
    // Without a token to begin with, the first token of the text has no loss and its bytes do not count.
    const begins = tokenizer.beginOfText !== null || tokenizer.endOfText !== null;
    const skipped = begins ? 0 : (document.bytesAt(1) ?? 0);
    for (const [index, loss] of losses.entries()) {
      const bytes = document.bytesAt(loss.position);
      this.table.append({
        ...keyOf(job, loss.position),
        ...weightsCell(candidate),
        ...lossFigures(loss, losses[index - 1]),
        documents: null,
        lossError: null,
        sinceLastError: null,
        bitsPerByte: bytes === null ? null : loss.nats / Math.LN2 / (bytes - skipped),
        tokensPerSecond: rate,
      });
    }
  }
}

function lossFigures({ tokens, nats, hitTokens, hitNats }: PositionLoss, before?: PositionLoss): LossFigures {
  const since = tokens - (before?.tokens ?? 0);
  return {
    tokens,
    loss: nats / tokens,
    perplexity: Math.exp(nats / tokens),
    lossSinceLast: (nats - (before?.nats ?? 0)) / since,
    recallTokens: hitTokens,
    recallLoss: hitTokens === 0 ? null : hitNats / hitTokens,
    firstLoss: hitTokens === tokens ? null : (nats - hitNats) / (tokens - hitTokens),
  };
}

/** At each position the mean over the documents that reach it. */
function addMeans(jobs: readonly Job[], table: Table): void {
  const [first] = jobs;
  if (first === undefined) return;
  for (const position of sharedPositions(jobs)) {
    const key = meanKey(first.candidate, position);
    if (table.figures(key)) continue;
    const cells = jobs
      .filter(({ positions }) => positions.includes(position))
      .map((job) => table.get(keyOf(job, position)))
      .filter((cell) => cell !== undefined);
    const failed = cells.find(({ status }) => status !== 'ok');
    if (failed) table.fail(key, new RunError(`${failed.document}: ${String(failed.error)}`));
    else table.append({ ...key, ...weightsCell(first.candidate), ...meanFigures(cells.filter(isMeasured)) });
  }
}

type Measured = Extract<TableCell<PerplexityKey, PerplexityFigures>, { readonly status: 'ok' }>;

const isMeasured = (cell: TableCell<PerplexityKey, PerplexityFigures>): cell is Measured =>
  cell.status === 'ok';

function meanFigures(cells: readonly Measured[]): Omit<PerplexityFigures, 'weights'> {
  /** Null where a document has no such figure. */
  const meanOf = (of: 'bitsPerByte' | 'recallTokens' | 'recallLoss' | 'firstLoss'): number | null => {
    const values = cells.map((cell) => cell[of]).filter((value) => value !== null);
    return values.length < cells.length ? null : mean(values);
  };
  const { mean: loss, standardError: lossError } = estimateMean(cells.map((cell) => cell.loss));
  const sinceLast = estimateMean(cells.map((cell) => cell.lossSinceLast));
  const recallTokens = meanOf('recallTokens');
  return {
    documents: cells.length,
    tokens: cells.reduce((sum, { tokens }) => sum + tokens, 0),
    loss,
    lossError,
    perplexity: Math.exp(loss),
    lossSinceLast: sinceLast.mean,
    sinceLastError: sinceLast.standardError,
    bitsPerByte: meanOf('bitsPerByte'),
    recallTokens: recallTokens === null ? null : recallTokens * cells.length,
    recallLoss: meanOf('recallLoss'),
    firstLoss: meanOf('firstLoss'),
    tokensPerSecond: null,
  };
}
