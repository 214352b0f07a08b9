/** Rows of Parquet files. */
import { RunError } from '../errors.js';

export type DataRow = Readonly<Record<string, unknown>>;

/** Rows of a Parquet file that are held at once. */
const PARQUET_ROWS = 1024;

/**
 * The rows of a Parquet file.
 * @param columns those needed; default all
 * @throws RunError for a column that it lacks
 */
export async function* parquetRows(file: string, columns?: readonly string[]): AsyncGenerator<DataRow> {
  const { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, parquetSchema } =
    await import('hyparquet');
  const { compressors } = await import('hyparquet-compressors');
  const buffer = await asyncBufferFromFile(file);
  const metadata = await parquetMetadataAsync(buffer);
  const present = parquetSchema(metadata).children.map(({ element }) => element.name);
  const missing = columns?.find((name) => !present.includes(name));
  if (missing !== undefined) {
    throw new RunError(`${file}: it has no column '${missing}', but ${present.join(', ')}`);
  }
  const rows = Number(metadata.num_rows);
  for (let rowStart = 0; rowStart < rows; rowStart += PARQUET_ROWS) {
    const rowEnd = Math.min(rows, rowStart + PARQUET_ROWS);
    const options = { file: buffer, metadata, compressors, rowStart, rowEnd };
    yield* await parquetReadObjects({ ...options, ...(columns ? { columns: [...columns] } : {}) });
  }
}
