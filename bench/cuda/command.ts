import { relative } from 'node:path';
import { packageRoot } from '../../src/package-root.js';
import type { RunDescription } from '../../src/results/provenance.js';

/**
 * How a benchmark is run again from the root of the project: `node --import tsx bench/cuda/NAME.ts DIRECTORY [PRESET]`.
 *
 * @param argv of the process
 */
export function benchCommand([
  ,
  script = '',
  directory = 'results/h200',
  preset,
  ...more
]: readonly string[]): Pick<RunDescription, 'program' | 'command' | 'flags'> & { directory: string } {
  return {
    directory,
    program: ['node', '--import', 'tsx', relative(packageRoot, script)],
    command: [directory, ...(preset === undefined ? [] : [preset]), ...more],
    flags: { directory, preset },
  };
}
