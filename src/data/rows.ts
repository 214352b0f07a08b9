/** Rows of data files as objects. */
import { RunError } from '../errors.js';
import { readJsonLines } from './files.js';
import { parquetRows, type DataRow } from './parquet.js';
import { fileSource } from './sources.js';
import { unpackSources } from './unpack.js';

/** The rows of a Parquet, JSON or JSON Lines file. @throws RunError for a file that is none of these, or damaged */
export async function* readRows(file: string): AsyncGenerator<DataRow> {
  const source = fileSource(file);
  if (source.packing === 'parquet') {
    yield* parquetRows(file);
    return;
  }
  if (source.kind !== 'jsonl')
    throw new RunError(`${file} holds no rows: .parquet, .json and .jsonl files do`);
  const [plain] = await unpackSources([source]);
  yield* readJsonLines(plain?.files[0] ?? file, (row) => row, undefined, file);
}
