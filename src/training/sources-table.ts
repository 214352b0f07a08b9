/** How far training is in each source of a mixture. */
import type { TableSchema } from '../results/typed.js';
import type { SourceProgress } from './task.js';

export interface SourceKey {
  /** Optimizer step after which it was counted. */
  readonly step: number;
  readonly source: string;
}

export type SourceFigures = Omit<SourceProgress, 'source'>;

export type SourceCell = SourceKey & SourceFigures;

export const SOURCES_SCHEMA: TableSchema<SourceKey, SourceFigures> = {
  name: 'sources',
  columns: [
    { name: 'step', kind: 'key', description: 'optimizer step after which it was counted', display: 'count' },
    { name: 'source', kind: 'key', description: 'text trained on' },
    { name: 'tokens', kind: 'result', description: 'trained on', display: 'count' },
    { name: 'share', kind: 'result', description: 'of all tokens, as the recipe asks for', digits: 6 },
    { name: 'epochs', kind: 'result', description: 'tokens trained on over those of the text', digits: 6 },
  ],
};
