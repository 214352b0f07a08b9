/** What a model of a run is, and how tables and people call it. */
import type { OpenCheckpoint } from '../checkpoint/open.js';
import type { Architecture, ModelConfig, SelfDecoderKind } from '../model/config.js';
import type { Column } from '../results/schema.js';
import type { SnakeCase } from '../results/typed.js';

export interface ModelChoice {
  /** Preset, or base name of the configuration file or checkpoint directory. */
  readonly name: string;
  readonly config: ModelConfig;
  /** Absent: the weights are drawn from the seed. */
  readonly checkpoint?: OpenCheckpoint;
}

/** By what every table tells models apart. */
export interface ModelKey {
  readonly model: string;
  readonly architecture: Architecture;
  readonly selfDecoder: SelfDecoderKind | null;
}

/** The key columns by which every table tells models apart. */
export const MODEL_COLUMNS: readonly Column<SnakeCase<keyof ModelKey>>[] = [
  { name: 'model', kind: 'key', description: 'preset, or name of the configuration or checkpoint' },
  { name: 'architecture', kind: 'key', description: 'yoco or transformer' },
  { name: 'self_decoder', kind: 'key', description: "mixer of YOCO's self-decoder" },
];

export function modelKey({ name, config }: ModelChoice): ModelKey {
  const selfDecoder = config.architecture === 'yoco' ? config.selfDecoder : null;
  return { model: name, architecture: config.architecture, selfDecoder };
}

/** What a person calls the model in one line: `tiny yoco (gated-retention)`. */
export function modelLabel(choice: ModelChoice): string {
  const { architecture } = choice.config;
  const mixer = choice.config.architecture === 'yoco' ? ` (${choice.config.selfDecoder})` : '';
  return choice.name.startsWith(architecture)
    ? `${choice.name}${mixer}`
    : `${choice.name} ${architecture}${mixer}`;
}
