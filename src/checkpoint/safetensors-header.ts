import { RunError } from '../errors.js';
import { areSizes, bytesPerElement, DATA_TYPES, elementCount, isDataType } from './data-type.js';
import { quote } from './files.js';
import type { TensorInfo } from './tensor-source.js';

/** The header of 100,000 tensors has 15 MB. The format allows 100 MB, whose parsing would take gigabytes. */
export const MAX_HEADER_BYTES = 32 * 2 ** 20;

export interface StoredTensor extends TensorInfo {
  /** First byte and the byte after the last, counted from the end of the header. */
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  readonly metadata: ReadonlyMap<string, string>;
  /** In the order of the file's header. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

/**
 * Names that occur twice among the keys of a JSON object or of the objects in it. `JSON.parse` silently keeps the
 * last, so that two readers could see different tensors under one name. `text` must be valid JSON.
 */
function duplicateKey(text: string): string | undefined {
  const scopes: Set<string>[] = [];
  const token = /"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?|[{}]/gs;
  for (const match of text.matchAll(token)) {
    if (match[0] === '{') scopes.push(new Set());
    else if (match[0] === '}') scopes.pop();
    else if (match[1] !== undefined) {
      const key = JSON.parse(match[0].slice(0, match[0].length - match[1].length)) as string;
      const scope = scopes.at(-1);
      if (scope?.has(key) === true) return key;
      scope?.add(key);
    }
  }
  return undefined;
}

function parseObject(path: string, bytes: Uint8Array): Record<string, unknown> {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    value = JSON.parse(text);
  } catch {
    throw new RunError(`${path}: not a safetensors file: its header is not valid JSON`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new RunError(`${path}: not a safetensors file: its header is not a JSON object`);
  }
  const repeated = duplicateKey(text);
  if (repeated !== undefined)
    throw new RunError(`${path}: the name ${quote(repeated)} occurs twice in the header`);
  return value as Record<string, unknown>;
}

function parseMetadata(path: string, value: unknown): Map<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new RunError(`${path}: __metadata__ is not an object`);
  }
  const metadata = new Map<string, string>();
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') throw new RunError(`${path}: __metadata__ ${quote(key)} is not a string`);
    metadata.set(key, text);
  }
  return metadata;
}

function parseTensor(path: string, name: string, value: unknown): StoredTensor {
  const fail = (problem: string): never => {
    throw new RunError(`${path}: tensor ${quote(name)}: ${problem}`);
  };
  if (typeof value !== 'object' || value === null) return fail('its entry is not an object');
  const { dtype, shape, data_offsets: offsets } = value as Record<string, unknown>;
  if (!isDataType(dtype)) {
    return fail(`unknown dtype ${quote(String(dtype))} (known: ${DATA_TYPES.join(', ')})`);
  }
  const count = Array.isArray(shape) ? elementCount(shape) : undefined;
  if (count === undefined) return fail('its shape is not a list of sizes');
  if (!Array.isArray(offsets) || offsets.length !== 2 || !areSizes(offsets)) {
    return fail('its data_offsets are not two byte positions');
  }
  const [begin, end] = offsets as [number, number];
  const size = count * bytesPerElement(dtype);
  if (end - begin !== size) {
    return fail(
      `data_offsets hold ${end - begin} bytes where ${dtype} [${(shape as number[]).join(', ')}] takes ${size}`,
    );
  }
  return { dtype, shape: shape as number[], begin, end };
}

/** The tensors must fill the data from its first byte to its last without a gap, in some order. */
function checkCoverage(path: string, tensors: ReadonlyMap<string, StoredTensor>, dataBytes: number): void {
  const sorted = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let covered = 0;
  for (const [name, { begin, end }] of sorted) {
    if (end > dataBytes) {
      throw new RunError(
        `${path}: truncated: tensor ${quote(name)} ends at byte ${end} of the data, the file has ${dataBytes}`,
      );
    }
    if (begin < covered) throw new RunError(`${path}: tensor ${quote(name)} overlaps another in the data`);
    if (begin > covered) {
      throw new RunError(
        `${path}: ${begin - covered} bytes before tensor ${quote(name)} belong to no tensor`,
      );
    }
    covered = end;
  }
  if (covered < dataBytes) {
    throw new RunError(`${path}: the last ${dataBytes - covered} bytes of the file belong to no tensor`);
  }
}

/** Parses and checks a header; `dataBytes` is what the file holds after it. Throws `RunError`, naming the tensor. */
export function parseHeader(path: string, bytes: Uint8Array, dataBytes: number): SafetensorsHeader {
  let metadata = new Map<string, string>();
  const tensors = new Map<string, StoredTensor>();
  for (const [name, value] of Object.entries(parseObject(path, bytes))) {
    if (name === '__metadata__') metadata = parseMetadata(path, value);
    else tensors.set(name, parseTensor(path, name, value));
  }
  checkCoverage(path, tensors, dataBytes);
  return { metadata, tensors };
}

/** The header's bytes, its length first, padded with spaces so that the data starts at a multiple of 8. */
export function serialiseHeader(header: SafetensorsHeader): Uint8Array {
  const fields: [string, unknown][] = [];
  if (header.metadata.size > 0) fields.push(['__metadata__', Object.fromEntries(header.metadata)]);
  for (const [name, { dtype, shape, begin, end }] of header.tensors) {
    fields.push([name, { dtype, shape, data_offsets: [begin, end] }]);
  }
  // Not one object: JavaScript would move names that look like integers to the front.
  const text = `{${fields.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`;
  const json = Buffer.from(text);
  const length = Math.ceil(json.byteLength / 8) * 8;
  const bytes = Buffer.alloc(8 + length, ' ');
  bytes.writeBigUInt64LE(BigInt(length));
  json.copy(bytes, 8);
  return bytes;
}
