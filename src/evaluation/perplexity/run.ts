/** Measures several models on several documents. */
import type { RunContext } from '../../sweep/run-context.js';
import { modelLabel } from '../../sweep/model-key.js';
import type { Engine } from '../../engines/engine.js';
import { RunError, UsageError } from '../../errors.js';
import type { LanguageModel } from '../../model/language-model.js';
import type { Row } from '../../results/schema.js';
import { ResultWriter } from '../../results/writer.js';
import { remarkContext, weightsCell, type Candidate } from '../candidates.js';
import { requireScoringMemory } from '../scoring/memory.js';
import { loadDocuments, type TokenDocument } from './documents.js';
import { documentLosses, doublingPositions, type PositionLoss } from './perplexity.js';
import { MEAN, PERPLEXITY_SCHEMA } from './tables.js';
import { engineIdentity, type Session } from '../session.js';

export interface PerplexityRun extends Session {
  /** Corpora, files, globs, directories. */
  readonly files: readonly string[];
  /** Positions; null: doubling from 256 to each document's end. */
  readonly positions: readonly number[] | null;
  readonly resume: boolean;
}

interface Job {
  readonly candidate: Candidate;
  readonly document: TokenDocument;
  readonly positions: readonly number[];
}

/**
 * @throws UsageError for documents shorter than every position, RunError when none fits the memory. A document that does not
 *   fit beside others that do, or whose losses are not finite, is failed rows.
 */
export async function runPerplexity(context: RunContext, run: PerplexityRun): Promise<ResultWriter> {
  const jobs = await planJobs(run);
  const refusals = new Map(jobs.map((job) => [job, refusalOf(job, run.engine)]));
  const [refusal] = refusals.values();
  if (refusal && [...refusals.values()].every((reason) => reason !== null)) throw refusal;
  for (const candidate of run.candidates) {
    const own = jobs.filter((job) => job.candidate === candidate);
    remarkContext(context.note, candidate, Math.max(...own.flatMap(({ positions }) => positions)));
  }
  const settings = new Map(jobs.map((job) => [jobName(keyOf(job, 0)), jobSettings(job, run.engine)]));
  const { provenance, resume } = run;
  const plan = run.candidates.flatMap((candidate) =>
    planRows(jobs.filter((job) => job.candidate === candidate)),
  );
  const writer = ResultWriter.open(context.directory, PERPLEXITY_SCHEMA, {
    settings: (row) => settings.get(jobName(row)) ?? [...settings.values()],
    ...{ provenance, resume, plan },
  });
  const isMissing = (job: Job): boolean =>
    !job.positions.every((position) => writer.has(keyOf(job, position)));
  const missing = jobs.filter(isMissing);
  const total = missing.reduce((sum, { positions }) => sum + (positions.at(-1) ?? 0), 0);
  const progress = context.progress({ label: 'perplexity', total, unit: 'tokens' });
  let done = 0;
  try {
    for (const candidate of run.candidates) {
      const own = missing.filter((job) => job.candidate === candidate);
      if (own.length > 0) {
        const measuring = new Measuring(refusals, writer, (job, tokens) => {
          progress.note(`${modelLabel(candidate.choice)}, ${job.document.name}`);
          progress.update(done + tokens);
          if (tokens === job.positions.at(-1)) done += tokens;
        });
        await measuring.all(own);
      }
      addMeans(
        jobs.filter((job) => job.candidate === candidate),
        writer,
      );
    }
  } finally {
    progress.stop();
    for (const { document } of jobs) document.tokens.dispose();
  }
  return writer;
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

function positionsOf({ name, length }: TokenDocument, wanted: readonly number[] | null): number[] {
  if (wanted === null) return doublingPositions(length);
  const within = [...wanted].filter((position) => position <= length).sort((a, b) => a - b);
  if (within.length > 0) return within;
  throw new UsageError(
    `${name} has ${length} tokens, fewer than the shortest --ctx (${Math.min(...wanted)})`,
  );
}

/** Why a document cannot be measured; null if it can. */
function refusalOf({ candidate, positions }: Job, engine: Engine): RunError | null {
  try {
    requireScoringMemory(engine, candidate.choice, positions.at(-1) ?? 0);
    return null;
  } catch (error) {
    if (error instanceof RunError) return error;
    throw error;
  }
}

const keyOf = ({ candidate, document }: Job, position: number): Row => ({
  ...candidate.key,
  document: document.name,
  position,
});

const jobName = ({ model, architecture, self_decoder: selfDecoder, document }: Row): string =>
  JSON.stringify([model, architecture, selfDecoder, document]);

const jobSettings = ({ candidate, document, positions }: Job, engine: Engine) => ({
  model: candidate.settings,
  document: document.sha256,
  positions,
  engine: engineIdentity(engine),
});

/** The rows of one model: its documents', and their means when there are several. */
function planRows(jobs: readonly Job[]): Row[] {
  const rows = jobs.flatMap((job) => job.positions.map((position) => keyOf(job, position)));
  const model = jobs[0]?.candidate.key ?? {};
  return [...rows, ...sharedPositions(jobs).map((position) => ({ ...model, document: MEAN, position }))];
}

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
    private readonly refusals: ReadonlyMap<Job, RunError | null>,
    private readonly writer: ResultWriter,
    private readonly onTokens: (job: Job, tokens: number) => void,
  ) {}

  async all(jobs: readonly Job[]): Promise<void> {
    try {
      for (const job of jobs) {
        try {
          await this.one(job);
        } catch (error) {
          for (const position of job.positions) this.writer.fail(keyOf(job, position), error);
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
    this.model ??= await candidate.open();
    const { tokenizer } = candidate;
    const started = performance.now();
    const losses = await documentLosses(this.model, tokenizer, document.tokens, positions, (tokens) => {
      this.onTokens(job, tokens);
    });
    const rate = (positions.at(-1) ?? 0) / ((performance.now() - started) / 1000);
    // Without a token to begin with, the first token of the text has no loss and its bytes do not count.
    const begins = tokenizer.beginOfText !== null || tokenizer.endOfText !== null;
    const skipped = begins ? 0 : (document.bytesAt(1) ?? 0);
    for (const [index, loss] of losses.entries()) {
      const bytes = document.bytesAt(loss.position);
      this.writer.append({
        ...{ ...keyOf(job, loss.position), ...weightsCell(candidate), documents: null },
        ...lossCells(loss, losses[index - 1]),
        bits_per_byte: bytes === null ? null : loss.nats / Math.LN2 / (bytes - skipped),
        tokens_per_second: rate,
      });
    }
  }
}

function lossCells({ tokens, nats, hitTokens, hitNats }: PositionLoss, before?: PositionLoss): Row {
  const since = tokens - (before?.tokens ?? 0);
  return {
    tokens,
    loss: nats / tokens,
    perplexity: Math.exp(nats / tokens),
    loss_since_last: (nats - (before?.nats ?? 0)) / since,
    recall_tokens: hitTokens,
    recall_loss: hitTokens === 0 ? null : hitNats / hitTokens,
    first_loss: hitTokens === tokens ? null : (nats - hitNats) / (tokens - hitTokens),
  };
}

/** At each position the mean over the documents that reach it. */
function addMeans(jobs: readonly Job[], writer: ResultWriter): void {
  const [first] = jobs;
  if (first === undefined) return;
  for (const position of sharedPositions(jobs)) {
    const rows = jobs
      .filter(({ positions }) => positions.includes(position))
      .map((job) => writer.get(keyOf(job, position)))
      .filter((row) => row !== undefined);
    const key = { ...first.candidate.key, document: MEAN, position };
    if (writer.get(key)?.status === 'ok') continue;
    const failed = rows.find(({ status }) => status !== 'ok');
    if (failed) {
      writer.fail(key, new RunError(`${String(failed.document)}: ${String(failed.error)}`));
      continue;
    }
    const mean = (column: string): number =>
      rows.reduce((sum, row) => sum + Number(row[column]), 0) / rows.length;
    const meanOf = (column: string): number | null =>
      rows.every((row) => typeof row[column] === 'number') ? mean(column) : null;
    writer.append({
      ...{ ...key, ...weightsCell(first.candidate), documents: rows.length },
      tokens: rows.reduce((sum, row) => sum + Number(row.tokens), 0),
      loss: mean('loss'),
      perplexity: Math.exp(mean('loss')),
      loss_since_last: mean('loss_since_last'),
      bits_per_byte: meanOf('bits_per_byte'),
      recall_tokens: meanOf('recall_tokens') === null ? null : mean('recall_tokens') * rows.length,
      recall_loss: meanOf('recall_loss'),
      first_loss: meanOf('first_loss'),
    });
  }
}
