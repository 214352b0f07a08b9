/** The models an evaluation compares, each with the tokenizer that belongs to it. */
import { modelKey, type ModelChoice, type ModelKey } from '../sweep/model-key.js';
import { checkpointHash, distinctNames } from '../sweep/models.js';
import {
  checkVocabulary,
  describeOrigins,
  isTokenizerName,
  loadTokenizer,
  tokenizerIdentity,
  type Tokenizer,
} from '../data/tokenizer.js';
import type { Communicator } from '../distributed/communicator.js';
import { UsageError } from '../errors.js';
import { BYTE_VOCABULARY, CL100K_VOCABULARY } from '../model/presets.js';
import type { LanguageModel } from '../model/language-model.js';
import type { Json } from '../results/canonical.js';
import type { Column } from '../results/schema.js';

export interface Candidate {
  readonly choice: ModelChoice;
  readonly tokenizer: Tokenizer;
  /** What tells this model from the others in a table. */
  readonly key: ModelKey;
  /** Everything that determines the model: configuration, weights, tokenizer. */
  readonly settings: Json;
  /** SHA-256 of the checkpoint's tensors; null for random weights. */
  readonly weightsHash: string | null;
  /** Tokens the model was trained on at once; null where unknown. */
  readonly trainedContext: number | null;
  /**
   * Loads the weights into the current engine, or draws them.
   * @param ranks over which the model divides sequences; default: none
   */
  open(ranks?: Communicator): Promise<LanguageModel>;
}

export type WeightsOrigin = 'checkpoint' | 'random';

/** Says in every table whether weights were trained. */
export const WEIGHTS_COLUMN: Column<'weights'> = {
  name: 'weights',
  kind: 'result',
  description: 'checkpoint, or random: drawn from the seed and not trained',
};

export const weightsCell = ({ choice }: Candidate): { weights: WeightsOrigin } => ({
  weights: choice.checkpoint ? 'checkpoint' : 'random',
});

/** Says where a text is longer than what the model was made for: figures beyond are no bug of the model. */
export function remarkContext(
  note: (line: string) => void,
  { choice, trainedContext }: Candidate,
  tokens: number,
): void {
  if (trainedContext === null || tokens <= trainedContext) return;
  note(
    `${choice.name}: ${tokens.toLocaleString('en-US')} tokens are beyond the ${trainedContext.toLocaleString('en-US')} ` +
      `the model was trained on or says it can read (max_position_embeddings)`,
  );
}

/** For `--verbose`: the tokens that begin, end and pad a text of each tokenizer, and which files name them. */
export function describeTokens(candidates: readonly Candidate[]): string[] {
  const tokenizers = [...new Set(candidates.map(({ tokenizer }) => tokenizer))];
  return tokenizers.flatMap(describeOrigins);
}

/**
 * @param tokenizer overrides what the checkpoints say; without either, the size of the vocabulary tells
 * @throws UsageError when a tokenizer does not fit a model's vocabulary
 */
export async function loadCandidates(
  choices: readonly ModelChoice[],
  { seed, tokenizer }: { seed: number; tokenizer?: string },
): Promise<Candidate[]> {
  const loaded = new Map<string, Promise<Tokenizer>>();
  const load = (spec: string): Promise<Tokenizer> => {
    const known = loaded.get(spec) ?? loadTokenizer(spec);
    loaded.set(spec, known);
    return known;
  };
  return Promise.all(
    distinctNames(choices).map(async (choice) => {
      const used = await load(tokenizer ?? tokenizerOf(choice));
      checkVocabulary(used, choice.config.vocabSize);
      return candidate(choice, used, seed);
    }),
  );
}

function candidate(choice: ModelChoice, tokenizer: Tokenizer, seed: number): Candidate {
  const { config, checkpoint } = choice;
  const weightsHash = checkpoint ? checkpointHash(checkpoint) : null;
  return {
    choice,
    tokenizer,
    key: modelKey(choice),
    settings: {
      config: { ...config },
      weights: weightsHash ?? { seed },
      tokenizer: tokenizerSettings(tokenizer),
    },
    weightsHash,
    trainedContext: checkpoint?.context ?? null,
    open: async (ranks) => {
      if (checkpoint) return (await import('../checkpoint/load.js')).modelOf(checkpoint, ranks);
      return (await import('../model/index.js')).createModel(config, { seed, ranks });
    },
  };
}

/** Its ids, and the tokens that other files make it put before and after a text. */
function tokenizerSettings(tokenizer: Tokenizer): Json {
  const { name, beginOfText, endOfText, stopTokens } = tokenizer;
  if (isTokenizerName(name)) return name;
  return { ids: tokenizerIdentity(tokenizer), beginOfText, endOfText, stopTokens: [...stopTokens] };
}

/** What `loadTokenizer` is to be given for a model. @throws UsageError where nothing tells */
function tokenizerOf({ name, config, checkpoint }: ModelChoice): string {
  if (checkpoint?.tokenizer) return checkpoint.tokenizer;
  if (config.vocabSize === BYTE_VOCABULARY) return 'bytes';
  if (config.vocabSize === CL100K_VOCABULARY) return 'cl100k_base';
  throw new UsageError(
    `'${name}' does not say which tokenizer its ${config.vocabSize} tokens are of: give --tokenizer ` +
      `(bytes has ${BYTE_VOCABULARY} tokens, cl100k_base ${CL100K_VOCABULARY}; or the path of a tokenizer.json)`,
  );
}
