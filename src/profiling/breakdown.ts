/** Memory in the three parts of the paper's Figure 6: weights, keys and values, and everything else. */
import type { DerivedTable } from '../results/derived.js';
import { rowOf, type TableCell, type TableSchema } from '../results/typed.js';
import { MODEL_COLUMNS } from '../sweep/model-key.js';
import type { MemoryFigures, MemoryKey } from './memory.js';
import { bytesColumn, CONTEXT_COLUMN } from './tables.js';

interface Breakdown {
  readonly weightsBytes: number;
  readonly kvCacheBytes: number;
  readonly otherBytes: number;
  readonly totalBytes: number;
  readonly measuredWeightsBytes: number | null;
  readonly measuredKvCacheBytes: number | null;
  readonly measuredOtherBytes: number | null;
  readonly measuredPeakBytes: number | null;
}

const BREAKDOWN_SCHEMA: TableSchema<MemoryKey, Breakdown> = {
  name: 'profile-memory-breakdown',
  columns: [
    ...MODEL_COLUMNS,
    CONTEXT_COLUMN,
    bytesColumn('weights_bytes', 'computed'),
    bytesColumn('kv_cache_bytes', 'keys and values, computed'),
    bytesColumn('other_bytes', 'states and the largest activations, computed'),
    bytesColumn('total_bytes', 'the sum, computed'),
    bytesColumn('measured_weights_bytes', 'tensors of the model'),
    bytesColumn('measured_kv_cache_bytes', 'keys and values as allocated'),
    bytesColumn('measured_other_bytes', 'the rest of the measured peak'),
    bytesColumn('measured_peak_bytes', 'largest sum of all tensors during the prefill'),
  ],
};

/** What is known of every context: computed for all, measured for some. */
export function breakdownTable(cells: readonly TableCell<MemoryKey, MemoryFigures>[]): DerivedTable {
  const rows = cells.flatMap((cell) =>
    cell.status === 'ok' ? [rowOf(BREAKDOWN_SCHEMA, partsOf(cell))] : [],
  );
  return { schema: BREAKDOWN_SCHEMA, rows };
}

function partsOf(cell: MemoryKey & MemoryFigures): MemoryKey & Breakdown & { status: 'ok' } {
  const { model, architecture, selfDecoder, context } = cell;
  const { weightsBytes, kvCacheBytes, stateBytes, activationBytes, totalBytes } = cell;
  const { measuredWeightsBytes, measuredKvCacheBytes, measuredPeakBytes } = cell;
  const isMeasured =
    measuredWeightsBytes !== null && measuredKvCacheBytes !== null && measuredPeakBytes !== null;
  return {
    ...{ model, architecture, selfDecoder, context },
    ...{ weightsBytes, kvCacheBytes, otherBytes: stateBytes + activationBytes, totalBytes },
    ...{ measuredWeightsBytes, measuredKvCacheBytes, measuredPeakBytes },
    measuredOtherBytes: isMeasured ? measuredPeakBytes - measuredWeightsBytes - measuredKvCacheBytes : null,
    status: 'ok',
  };
}
