/** All kernel cases. */
import type { KernelCase } from './contract.js';
import { ATTENTION_CASES, PARTIAL_CASES } from './attention.cases.js';
import { CONVOLUTION_CASES } from './convolution.cases.js';
import { COMPRESSED_CASES } from './compressed.cases.js';
import { DELTA_CASES } from './delta.cases.js';
import { ELEMENTWISE_CASES } from './elementwise.cases.js';
import { FLOAT8_CASES } from './float8.cases.js';
import { LAYOUT_CASES } from './layout.cases.js';
import { LOSS_CASES } from './loss.cases.js';
import { OPTIMIZER_CASES } from './optimizer.cases.js';
import { PAGE_CASES } from './page.cases.js';
import { REDUCTION_CASES } from './reduction.cases.js';
import { RETENTION_CASES } from './retention.cases.js';
import { ROW_CASES } from './row.cases.js';
import { STATE_SPACE_CASES } from './state-space.cases.js';

export const CASES: readonly KernelCase[] = [
  ...ELEMENTWISE_CASES,
  ...LAYOUT_CASES,
  ...REDUCTION_CASES,
  ...ROW_CASES,
  ...FLOAT8_CASES,
  ...ATTENTION_CASES,
  ...PARTIAL_CASES,
  ...PAGE_CASES,
  ...COMPRESSED_CASES,
  ...RETENTION_CASES,
  ...CONVOLUTION_CASES,
  ...STATE_SPACE_CASES,
  ...DELTA_CASES,
  ...LOSS_CASES,
  ...OPTIMIZER_CASES,
];
