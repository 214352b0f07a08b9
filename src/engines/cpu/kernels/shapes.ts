/**
 * Shapes in as few dimensions as an operation allows. A graph is compiled per rank, so fewer ranks mean fewer
 * sessions, and ONNX Runtime runs long contiguous stretches faster than many short ones.
 */

/** Neighbouring dimensions that belong to the same group merge; dimensions of size 1 vanish. */
export interface Group<Key> {
  readonly key: Key;
  size: number;
}

/** Merges neighbours with equal keys. */
export function mergeDimensions<Key>(sizes: readonly number[], keys: readonly Key[]): Group<Key>[] {
  const groups: Group<Key>[] = [];
  for (const [axis, size] of sizes.entries()) {
    if (size === 1) continue;
    const key = keys[axis] as Key;
    const last = groups.at(-1);
    if (last && last.key === key) last.size *= size;
    else groups.push({ key, size });
  }
  return groups;
}

/** The shape two shapes broadcast to, by NumPy's rules. */
export function broadcastShape(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const [x, y] = [a[a.length - rank + i] ?? 1, b[b.length - rank + i] ?? 1];
    return x === 1 ? y : x;
  });
}

/** `shape` with ones in front up to `rank`. */
function align(shape: readonly number[], rank: number): number[] {
  return [...Array<number>(rank - shape.length).fill(1), ...shape];
}

/** Several operands of an element-wise operation, reshaped to the fewest dimensions that broadcast the same. */
export function collapseBroadcast(
  shapes: readonly (readonly number[])[],
  result: readonly number[],
): { operands: number[][]; result: number[] } {
  const aligned = shapes.map((shape) => align(shape, result.length));
  // Per axis, which operands are repeated along it.
  const keys = result.map((_, axis) => aligned.map((shape) => (shape[axis] === 1 ? 'r' : '-')).join(''));
  const groups = mergeDimensions(result, keys);
  if (groups.length === 0) groups.push({ key: '-'.repeat(shapes.length), size: 1 });
  return {
    operands: shapes.map((_, operand) => groups.map(({ key, size }) => (key[operand] === 'r' ? 1 : size))),
    result: groups.map(({ size }) => size),
  };
}

/** A permutation without the axes it does not separate, and the input shape it then applies to. */
export function collapseTranspose(
  shape: readonly number[],
  permutation: readonly number[],
): { shape: number[]; permutation: number[] } {
  const runs: { axes: number[] }[] = [];
  for (const axis of permutation.filter((axis) => shape[axis] !== 1)) {
    const last = runs.at(-1);
    const previous = last?.axes.at(-1);
    // Axes of size 1 between two neighbours do not separate them.
    const adjacent =
      previous !== undefined &&
      axis > previous &&
      shape.slice(previous + 1, axis).every((size) => size === 1);
    if (last && adjacent) last.axes.push(axis);
    else runs.push({ axes: [axis] });
  }
  const inputOrder = [...runs].sort((a, b) => (a.axes[0] ?? 0) - (b.axes[0] ?? 0));
  return {
    shape: inputOrder.map(({ axes }) => axes.reduce((size, axis) => size * (shape[axis] ?? 1), 1)),
    permutation: runs.map((run) => inputOrder.indexOf(run)),
  };
}
