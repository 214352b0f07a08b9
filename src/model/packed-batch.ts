/** Several sequences of different lengths in one pass: their rows lie one after the other, without padding. */
import * as tf from '../tf.js';
import type { PackedSequence } from './language-model.js';
import type { Rows } from './layers/heads.js';
import type { Memory } from './state/memory.js';
import { PackedMemory } from './state/packed.js';
import type { ModelCache, StateCache } from './state/state-cache.js';

/** Rows of a packed pass: all of them, or those that go on to the logits. */
export interface PackedRows {
  /** Which of all rows these are. */
  readonly indices: Int32Array;
  readonly rows: Rows;
  /** Their tokens, int32 [1, rows]. */
  ids(): tf.Tensor2D;
  /** What each part of the model remembers, for these rows. */
  memories(): Memory[];
}

/** A sequence of a batch, where its cache stands before the pass. */
interface Member {
  readonly tokens: Int32Array;
  readonly state: StateCache;
  readonly start: number;
  readonly logits: number;
}

/** Rows of a member to be computed: the last `count`. */
type CountOf = (member: Member) => number;

const everyRow: CountOf = ({ tokens }) => tokens.length;
const wantedRows: CountOf = ({ logits }) => logits;

export class PackedBatch {
  private readonly members: readonly Member[];
  readonly all: PackedRows;
  /** The rows whose logits are asked for. */
  readonly wanted: PackedRows;

  /** @param stateOf the cache as the model sees it; throws for one of another model */
  constructor(sequences: readonly PackedSequence[], stateOf: (cache: ModelCache) => StateCache) {
    this.members = sequences.map(({ tokens, cache, logits }) => {
      const state = stateOf(cache);
      return { tokens, state, start: state.length, logits };
    });
    checkMembers(this.members);
    this.all = rowsOf(this.members, everyRow);
    this.wanted = rowsOf(this.members, wantedRows);
  }

  /** The caches hold the tokens now. */
  advance(): void {
    for (const { state, tokens } of this.members) state.length += tokens.length;
  }
}

function checkMembers(members: readonly Member[]): void {
  if (members.length === 0) throw new RangeError('no sequences to extend');
  if (new Set(members.map(({ state }) => state)).size < members.length) {
    throw new RangeError('a cache can be extended by one sequence of a batch only');
  }
  for (const { state, tokens, logits } of members) {
    if (state.batch !== 1) throw new RangeError(`a packed cache is of one sequence, found ${state.batch}`);
    if (tokens.length === 0) throw new RangeError('no tokens to extend a cache by');
    if (!Number.isInteger(logits) || logits < 0 || logits > tokens.length) {
      throw new RangeError(`${tokens.length} tokens have no ${logits} rows of logits`);
    }
  }
}

function rowsOf(members: readonly Member[], countOf: CountOf): PackedRows {
  const total = members.reduce((sum, member) => sum + countOf(member), 0);
  const [indices, positions, tokens] = [new Int32Array(total), new Int32Array(total), new Int32Array(total)];
  let [row, end] = [0, 0];
  for (const member of members) {
    end += member.tokens.length;
    const count = countOf(member);
    const skipped = member.tokens.length - count;
    tokens.set(member.tokens.subarray(skipped), row);
    for (let i = 0; i < count; i++, row++) {
      indices[row] = end - count + i;
      positions[row] = member.start + skipped + i;
    }
  }
  return {
    indices,
    rows: { start: 0, positions },
    ids: () => tf.tensor2d(tokens, [1, total], 'int32'),
    memories: () => memoriesOf(members, countOf),
  };
}

function memoriesOf(members: readonly Member[], countOf: CountOf): Memory[] {
  const present = members.filter((member) => countOf(member) > 0);
  const memories = present[0]?.state.memories ?? [];
  return memories.map((_, part) => {
    const spans = present.map((member) => {
      const count = countOf(member);
      const start = member.start + member.tokens.length - count;
      return { memory: member.state.memories[part] as Memory, start, count };
    });
    return new PackedMemory(spans);
  });
}
