/** Parquet files with few rows. */
import { parquetWriteBuffer, type ColumnSource } from 'hyparquet-writer';

type Options = Parameters<typeof parquetWriteBuffer>[0];

/** A file of the columns; nested ones need their part of the schema. */
export function parquet(columnData: ColumnSource[], schema?: Options['schema']): Buffer {
  return Buffer.from(parquetWriteBuffer({ columnData, ...(schema ? { schema } : {}) }));
}

export const TINY_PARQUET = parquet([
  { name: 'text', data: ['first row', 'second row', 'third row'], type: 'STRING' },
]);
