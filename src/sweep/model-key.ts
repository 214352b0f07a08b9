/** What a model of a run is, and how tables and people call it. */
import type { OpenCheckpoint } from '../checkpoint/open.js';
import { architectureName, selfDecoderOf } from '../model/config.js';
import type { ModelConfig, SelfDecoderKind } from '../model/config.js';
import type { Column, Row } from '../results/schema.js';
import { rowOf, type SnakeCase } from '../results/typed.js';

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
  /** The name of the layout, or its parts where it has none. */
  readonly architecture: string;
  readonly selfDecoder: SelfDecoderKind | null;
}

/** The key columns by which every table tells models apart. */
export const MODEL_COLUMNS: readonly Column<SnakeCase<keyof ModelKey>>[] = [
  { name: 'model', kind: 'key', description: 'preset, or name of the configuration or checkpoint' },
  { name: 'architecture', kind: 'key', description: 'yoco, transformer or another layout' },
  {
    name: 'self_decoder',
    kind: 'key',
    description: 'mixer of the self-decoder, where the layout leaves it open',
  },
];

export function modelKey({ name, config }: ModelChoice): ModelKey {
  return { model: name, architecture: architectureName(config), selfDecoder: selfDecoderOf(config) };
}

/** The cells of these columns. */
export const modelRow = (key: ModelKey): Row => rowOf({ name: 'model', columns: MODEL_COLUMNS }, key);

/** What a person calls the model in one line: `tiny yoco (gated-retention)`. */
export function modelLabel(choice: ModelChoice): string {
  const { architecture, selfDecoder } = modelKey(choice);
  const mixer = selfDecoder === null ? '' : ` (${selfDecoder})`;
  return choice.name.startsWith(architecture)
    ? `${choice.name}${mixer}`
    : `${choice.name} ${architecture}${mixer}`;
}
