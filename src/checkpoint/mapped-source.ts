import { RunError } from '../errors.js';
import type { ModelConfig } from '../model/config.js';
import { parameterSpecs } from '../model/parameters.js';
import { bytesPerElement, isFloating } from './data-type.js';
import { quote } from './files.js';
import { storedRow } from './rotary-rows.js';
import type { RowOrder } from './rotary-rows.js';
import { TensorSource } from './tensor-source.js';
import type { TensorInfo } from './tensor-source.js';

/** Where a parameter is found in a foreign checkpoint. */
export interface Placement {
  readonly name: string;
  /** Rows are stored in another order than the model wants them. */
  readonly rows?: RowOrder;
}

/** A source seen under other names: how a foreign checkpoint becomes one with our parameter names. */
export class MappedSource extends TensorSource {
  constructor(
    private readonly source: TensorSource,
    private readonly placements: ReadonlyMap<string, Placement>,
  ) {
    super();
  }

  get path(): string {
    return this.source.path;
  }

  names(): readonly string[] {
    return [...this.placements.keys()];
  }

  has(name: string): boolean {
    return this.placements.has(name);
  }

  info(name: string): TensorInfo {
    return this.source.info(this.placement(name).name);
  }

  readInto(name: string, offset: number, target: Uint8Array): void {
    const { name: stored, rows } = this.placement(name);
    if (rows === undefined) {
      this.source.readInto(stored, offset, target);
      return;
    }
    const { dtype, shape } = this.source.info(stored);
    const rowBytes = (shape[1] ?? 0) * bytesPerElement(dtype);
    for (let done = 0; done < target.byteLength;) {
      const row = Math.floor((offset + done) / rowBytes);
      const inRow = offset + done - row * rowBytes;
      const part = target.subarray(done, done + rowBytes - inRow);
      this.source.readInto(stored, storedRow(row, rows) * rowBytes + inRow, part);
      done += part.byteLength;
    }
  }

  close(): void {
    this.source.close();
  }

  private placement(name: string): Placement {
    const placement = this.placements.get(name);
    if (placement === undefined) throw new RunError(`${this.path}: there is no tensor ${quote(name)}`);
    return placement;
  }
}

/** Names and shapes of all parameters of a model: what a checkpoint must hold. */
export function parameterShapes(config: ModelConfig): Map<string, readonly number[]> {
  return new Map(parameterSpecs(config).map(({ name, shape }) => [name, shape]));
}

const show = (shape: readonly number[]): string => `[${shape.join(', ')}]`;

/**
 * Checks that a checkpoint holds exactly the parameters of a configuration.
 * @param shapes the parameters and their shapes, under our names
 * @param placements where they are looked for in `source`
 * @param ignored stored tensors that are no parameters (tables that other programs save)
 * @throws RunError naming the tensor, the expected and the found shape
 */
export function checkFit(
  source: TensorSource,
  shapes: ReadonlyMap<string, readonly number[]>,
  placements: ReadonlyMap<string, Placement>,
  ignored: (name: string) => boolean = () => false,
): void {
  for (const [name, expected] of shapes) {
    const stored = placements.get(name)?.name ?? name;
    if (!source.has(stored)) {
      throw new RunError(`${source.path}: tensor ${quote(stored)} ${show(expected)} is missing`);
    }
    const { dtype, shape } = source.info(stored);
    if (shape.length !== expected.length || shape.some((size, axis) => size !== expected[axis])) {
      throw new RunError(
        `${source.path}: tensor ${quote(stored)} does not fit the configuration: expected ${show(expected)}, found ${show(shape)}`,
      );
    }
    if (!isFloating(dtype)) {
      throw new RunError(`${source.path}: tensor ${quote(stored)} holds ${dtype}, expected floating point`);
    }
  }
  const used = new Set([...placements.values()].map(({ name }) => name));
  const stranger = source.names().find((name) => !used.has(name) && !ignored(name));
  if (stranger !== undefined) {
    throw new RunError(`${source.path}: tensor ${quote(stranger)} has no place in the configuration`);
  }
}

/** Every parameter under its own name. */
export function sameNames(names: Iterable<string>): Map<string, Placement> {
  return new Map([...names].map((name) => [name, { name }]));
}
