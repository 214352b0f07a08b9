import { UsageError } from '../../errors.js';

/** Depths of one run: steps of a tenth of a percent. */
const MOST_DEPTHS = 1001;

/**
 * Needle depths in percent: `0,50,100`, or `0,10,..,100` for equal steps.
 * @throws UsageError for anything that is not a list of numbers from 0 to 100
 */
export function parseDepths(text: string): number[] {
  const parts = text.split(',').map((part) => part.trim());
  const depths = parts.flatMap((part, index) =>
    part === '..' || part === '...'
      ? between(text, parts.slice(index - 2, index), parts[index + 1])
      : [parseDepth(part)],
  );
  const distinct = [...new Set(depths)];
  if (distinct.length <= MOST_DEPTHS) return distinct;
  throw new UsageError(`${distinct.length} depths: at most ${MOST_DEPTHS} can be tested at once`);
}

function parseDepth(text: string | undefined): number {
  const depth = Number(text?.replace(/%$/, ''));
  if (text === undefined || text === '' || !(depth >= 0 && depth <= 100)) {
    throw new UsageError(
      `'${text ?? ''}' is not a depth: write percentages from 0 to 100, such as 0,50,100 or 0,10,..,100`,
    );
  }
  return depth;
}

/** The numbers that `..` stands for after `first,second` and before `last`. */
function between(text: string, before: readonly string[], after: string | undefined): number[] {
  const [first, second, last] = [...before, after].map(parseDepth);
  if (
    before.length < 2 ||
    first === undefined ||
    second === undefined ||
    last === undefined ||
    second <= first
  ) {
    throw new UsageError(
      `'${text}': before '..' there must be two rising depths and after it a last one, as in 0,10,..,100`,
    );
  }
  const step = second - first;
  const count = Math.max(0, Math.ceil((last - second) / step - 1e-9) - 1);
  if (count > MOST_DEPTHS) {
    throw new UsageError(`'${text}' is ${count + 3} depths: at most ${MOST_DEPTHS} can be tested at once`);
  }
  return Array.from({ length: count }, (_, index) => second + step * (index + 1));
}
