/** Constants that kernels are compiled with (`-D`) and launched by: what a block, a warp or a thread takes. */
import { LEAST_LOG_DECAY } from '../../ops/gated-retention/chunks.js';

/** Few rows of x against weights that are read once. */
const GEMV = {
  /** Most rows of x, and most weights of one launch. */
  GEMV_ROWS: 4,
  GEMV_WEIGHTS: 8,
} as const;

/** Packs of a normed row that one thread keeps in registers. */
const NORM = { KEPT: 4 } as const;

/** Chunkwise gated retention. */
const RETENTION = {
  /** Positions of a chunk and of a tile; threads of a block. */
  CHUNK: 128,
  ROWS: 64,
  THREADS: 128,
  /** Logarithms of decays are at least this. */
  LEAST_LOG_DECAY,
} as const;

/** Most axes that a kernel walks. */
const WALK = { RANK: 6 } as const;

/** By source file. */
export const TILES = {
  attention: {
    /** Rows of a block, 16 a warp. */
    ROWS: 64,
    KEYS: 64,
    THREADS: 128,
  },
  attention_decode: {
    WARPS: 4,
    /** Keys that a warp reads at a time, and times that it has room for. */
    KEYS: 16,
    STAGES: 2,
    /** Most (query, head of the group) rows. */
    MOST: 16,
    /** Least keys of a split, and what their number is a multiple of: small, so that splits have about the same number. */
    LEAST: 256,
    STEP: 16,
    /** Parts of the splits that are joined at once. */
    PARTS: 8,
  },
  attention_coded: {
    /** As of attention_decode, whose kernel joins the splits; LEAST is a multiple of a group, KEYS half of one. */
    WARPS: 4,
    MOST: 16,
    LEAST: 256,
    KEYS: 32,
    /** Of 4 bits; one less of 8, so that two blocks fit a multiprocessor. */
    STAGES: 3,
  },
  /** A warp has 16 rows. */
  attention_coded_forward: { WARPS: 4 },
  /** Rows of which a thread has a part. */
  attention_delta: { ROWS: 4 },
  attention_hopper: {
    /** Keys of a tile. */
    KEYS: 128,
    /** For heads of 64 and of 128: warpgroups of 64 rows, tiles of K and of V in flight, and whether warpgroups take turns. */
    CONSUMERS_64: 3,
    CONSUMERS_128: 2,
    STAGES_64: 4,
    STAGES_128: 2,
    TURNS_64: 1,
    TURNS_128: 1,
  },
  attention_hopper_grad: {
    /** Positions of a streamed tile and of a box of any tensor map. */
    TILE: 64,
    /** For heads of 64 and of 128: tiles in flight, and warpgroups of 64 rows for dQ; for dK and dV there are two. */
    STAGES_64: 6,
    STAGES_128: 3,
    QUERY_CONSUMERS_64: 3,
    QUERY_CONSUMERS_128: 2,
  },
  /** Logits in flight a thread, and packs of them for the gradient. */
  cross_entropy: { AHEAD: 32, PACKS: 4 },
  /** Tokens of an id that a thread sums at most. */
  embedding_grad: { CHUNK: 32 },
  float8: NORM,
  gemv: { ...GEMV, THREADS: 128 },
  /** Most rows of x: those of a tensor core's operand. */
  gemv_float8: { GEMV_WEIGHTS: GEMV.GEMV_WEIGHTS, MOST_ROWS: 8, THREADS: 256 },
  gemv_chain: {
    ...GEMV,
    ...NORM,
    /** Stages of a launch, threads of a block. */
    STAGES: 8,
    THREADS: 512,
    /** Slots of a warp's ring of weights, and packs of a slot. */
    SLOTS: 6,
    PACKS: 128,
  },
  linear_narrow: {
    /** There are fewer than these, those of a tensor core's operand. */
    COLUMNS: 8,
    /** Warps of a block that share the inner elements. */
    WARPS: 4,
    /** The gradient of x: rows of a block and its threads, of two elements each. */
    ROWS: 64,
    THREADS: 128,
    /** The gradient of the weight: warps of a block, and rows that a warp takes at a time. */
    GRAD_WARPS: 8,
    STEP: 8,
  },
  linear_swiglu_hopper: {
    /** Slices in flight, and by how many one warpgroup is ahead of the other. */
    STAGES: 4,
    SKEW: 2,
    /** Rows of tiles that tiles go down before the next column. */
    BAND: 16,
  },
  norm: NORM,
  norm_float8: NORM,
  norm_grad: { THREADS: 256 },
  optimizer: {
    /** Elements of a piece, which one block handles; threads of a block. */
    PIECE: 8192,
    THREADS: 256,
  },
  elementwise: WALK,
  layout: WALK,
  retention: RETENTION,
  retention_grad: RETENTION,
  /** Slices of 64 columns in flight. */
  retention_hopper: { CHUNK: RETENTION.CHUNK, STAGES: 4, LEAST_LOG_DECAY },
  /** Chunks in flight, fewer of two warpgroups, and warps that fetch them, no more than chunks. */
  retention_hopper_states: {
    CHUNK: RETENTION.CHUNK,
    STAGES: 6,
    WIDE_STAGES: 4,
    PRODUCERS: 4,
    LEAST_LOG_DECAY,
  },
  retention_step: {
    /** Value columns of a block, and threads of a column, each with the same share of the state's rows. */
    COLUMNS: 32,
    PARTS: 8,
  },
  /** As of retention_step. */
  delta: { COLUMNS: 32, PARTS: 8 },
  /** As of retention, with one tile a chunk. */
  delta_chunk: { ...RETENTION, CHUNK: 64 },
  delta_grad: { ...RETENTION, CHUNK: 64 },
  /** Positions that a thread of the short convolution takes one after the other. */
  short_convolution: { STRIP: 16 },
} as const;

/** Keys (dQ) or queries (dK, dV) per step of attention's general gradient, so that wide heads fit: `SHORT` there. */
export const shortStep = (head: number): number => (head <= 128 ? 32 : 16);
