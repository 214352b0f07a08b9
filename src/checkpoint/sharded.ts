/**
 * A model's tensors in a directory: one `model.safetensors`, or shards with `model.safetensors.index.json`, as
 * Hugging Face lays them out.
 */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as v from 'valibot';
import { RunError } from '../errors.js';
import { insideFile } from '../files/inside.js';
import { OBJECT, readJsonAs } from '../files/json.js';
import { quote, writeJson } from './files.js';
import { SafetensorsFile, writeSafetensors } from './safetensors.js';
import { storedBytes, TensorSource } from './tensor-source.js';
import type { TensorEntry, TensorInfo } from './tensor-source.js';

/** Shards larger than this are split, Hugging Face's default. */
const MAX_SHARD_BYTES = 5e9;

const INDEX = v.object({ weight_map: OBJECT });
/** An index of a million tensors. */
const MAX_INDEX_BYTES = 128 * 2 ** 20;

/** Several sources as one. */
class UnionSource extends TensorSource {
  constructor(
    private readonly directory: string,
    private readonly byName: ReadonlyMap<string, TensorSource>,
    private readonly sources: readonly TensorSource[],
  ) {
    super();
  }

  get path(): string {
    return this.directory;
  }

  names(): readonly string[] {
    return [...this.byName.keys()];
  }

  has(name: string): boolean {
    return this.byName.has(name);
  }

  info(name: string): TensorInfo {
    return this.source(name).info(name);
  }

  readInto(name: string, offset: number, target: Uint8Array): void {
    this.source(name).readInto(name, offset, target);
  }

  close(): void {
    for (const source of this.sources) source.close();
  }

  private source(name: string): TensorSource {
    const source = this.byName.get(name);
    if (source === undefined) throw new RunError(`${this.path}: there is no tensor ${quote(name)}`);
    return source;
  }
}

/** Whether a directory holds `STEM.safetensors` or shards of it. */
export function hasSafetensors(directory: string, stem = 'model'): boolean {
  return ['', '.index.json'].some((suffix) => existsSync(join(directory, `${stem}.safetensors${suffix}`)));
}

/** Opens `STEM.safetensors` or its shards. @throws RunError where a file is missing, damaged or unlike the index */
export function openSafetensors(directory: string, stem = 'model'): TensorSource {
  const single = join(directory, `${stem}.safetensors`);
  const index = `${single}.index.json`;
  if (existsSync(single) || !existsSync(index)) return SafetensorsFile.open(single);
  const files = new Map<string, SafetensorsFile>();
  try {
    return openShards(directory, index, files);
  } catch (error) {
    for (const file of files.values()) file.close();
    throw error;
  }
}

function openShards(directory: string, index: string, files: Map<string, SafetensorsFile>): TensorSource {
  const { weight_map: weightMap } = readJsonAs(index, INDEX, MAX_INDEX_BYTES);
  const byName = new Map<string, TensorSource>();
  for (const [name, shard] of Object.entries(weightMap)) {
    if (typeof shard !== 'string' || !shard.endsWith('.safetensors')) {
      throw new RunError(
        `${index}: tensor ${quote(name)}: ${quote(String(shard))} is not a safetensors file`,
      );
    }
    const file =
      files.get(shard) ??
      SafetensorsFile.open(insideFile(directory, shard, `${index}: tensor ${quote(name)}`));
    files.set(shard, file);
    if (!file.has(name)) throw new RunError(`${join(directory, shard)}: tensor ${quote(name)} is missing`);
    byName.set(name, file);
  }
  for (const file of files.values()) {
    const stranger = file.names().find((name) => byName.get(name) !== file);
    if (stranger !== undefined) {
      throw new RunError(`${file.path}: tensor ${quote(stranger)} is not in ${basename(index)}`);
    }
  }
  return new UnionSource(directory, byName, [...files.values()]);
}

/** Consecutive entries until a shard would grow beyond the limit; a larger tensor has a shard of its own. */
function divide(entries: readonly TensorEntry[], maxBytes: number): TensorEntry[][] {
  const shards: TensorEntry[][] = [];
  let room = 0;
  for (const entry of entries) {
    const size = storedBytes(entry);
    const shard = shards.at(-1);
    if (shard !== undefined && size <= room) {
      shard.push(entry);
      room -= size;
    } else {
      shards.push([entry]);
      room = maxBytes - size;
    }
  }
  return shards;
}

/** Writes `model.safetensors`, or shards and their index where the tensors take more than `maxShardBytes`. */
export async function writeShards(
  directory: string,
  entries: readonly TensorEntry[],
  maxShardBytes: number = MAX_SHARD_BYTES,
): Promise<void> {
  const metadata = { format: 'pt' };
  const shards = divide(entries, maxShardBytes);
  if (shards.length <= 1) {
    await writeSafetensors(join(directory, 'model.safetensors'), entries, metadata);
    return;
  }
  const weightMap: [name: string, file: string][] = [];
  for (const [index, shard] of shards.entries()) {
    const [number, count] = [index + 1, shards.length].map((value) => String(value).padStart(5, '0'));
    const file = `model-${number ?? ''}-of-${count ?? ''}.safetensors`;
    await writeSafetensors(join(directory, file), shard, metadata);
    for (const { name } of shard) weightMap.push([name, file]);
  }
  const total = entries.reduce((sum, entry) => sum + storedBytes(entry), 0);
  writeJson(join(directory, 'model.safetensors.index.json'), {
    metadata: { total_size: total },
    weight_map: Object.fromEntries(weightMap),
  });
}
