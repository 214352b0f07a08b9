/** Measures several models on several documents. */
import type { RunContext } from '../../sweep/run-context.js';
import { modelLabel } from '../../sweep/model-key.js';
import type { Engine } from '../../engines/engine.js';
import { UsageError } from '../../errors.js';
import { costs } from '../../model/costs.js';
import { besideWeights, ELEMENT_BYTES, requireMemory } from '../../sweep/memory-budget.js';
import type { Row } from '../../results/schema.js';
import { ResultWriter } from '../../results/writer.js';
import { weightsCell, type Candidate } from '../candidates.js';
import { scoringChunk } from '../scoring/consume.js';
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

/** @throws UsageError for documents shorter than every position, RunError for those that do not fit the memory */
export async function runPerplexity(context: RunContext, run: PerplexityRun): Promise<ResultWriter> {
  const jobs = await planJobs(run);
  for (const job of jobs) requireRoom(job, run.engine);
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
        await measure(own, writer, (job, tokens) => {
          progress.note(`${modelLabel(candidate.choice)}, ${job.document.name}`);
          progress.update(done + tokens);
          if (tokens === job.positions.at(-1)) done += tokens;
        });
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

function requireRoom({ candidate, positions }: Job, engine: Engine): void {
  const { config } = candidate.choice;
  const bytesPerElement = ELEMENT_BYTES[engine.storage];
  const chunk = scoringChunk(config);
  const end = positions.at(-1) ?? 0;
  const formulas = costs(config);
  const logits = chunk * config.vocabSize * bytesPerElement;
  const needed = formulas.weightBytes(bytesPerElement) + logits;
  const memory = formulas.inferenceMemory({ context: end, chunk, bytesPerElement });
  requireMemory(
    engine,
    needed + besideWeights(memory),
    `a document of ${end} tokens (${modelLabel(candidate.choice)})`,
  );
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

async function measure(
  jobs: readonly Job[],
  writer: ResultWriter,
  onTokens: (job: Job, tokens: number) => void,
): Promise<void> {
  const [first] = jobs;
  if (first === undefined) return;
  const model = await first.candidate.open();
  try {
    for (const job of jobs) {
      const { candidate, document, positions } = job;
      const started = performance.now();
      const losses = await documentLosses(
        model,
        candidate.tokenizer,
        document.tokens,
        positions,
        (tokens) => {
          onTokens(job, tokens);
        },
      );
      const rate = (positions.at(-1) ?? 0) / ((performance.now() - started) / 1000);
      for (const [index, loss] of losses.entries()) {
        const row = { ...keyOf(job, loss.position), ...weightsCell(candidate), documents: null };
        writer.append({ ...row, ...lossCells(loss, losses[index - 1]), tokens_per_second: rate });
      }
    }
  } finally {
    model.dispose();
  }
}

function lossCells({ tokens, nats }: PositionLoss, before?: PositionLoss): Row {
  const since = tokens - (before?.tokens ?? 0);
  return {
    tokens,
    loss: nats / tokens,
    perplexity: Math.exp(nats / tokens),
    loss_since_last: (nats - (before?.nats ?? 0)) / since,
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
    const mean = (column: string): number =>
      rows.reduce((sum, row) => sum + Number(row[column]), 0) / rows.length;
    const key = { ...first.candidate.key, document: MEAN, position };
    if (writer.has(key)) continue;
    writer.append({
      ...{ ...key, ...weightsCell(first.candidate), documents: rows.length },
      tokens: rows.reduce((sum, row) => sum + Number(row.tokens), 0),
      loss: mean('loss'),
      perplexity: Math.exp(mean('loss')),
      loss_since_last: mean('loss_since_last'),
    });
  }
}
