/** Which directory of tasks a person means: a path, `hf:owner/name`, or what `yoco data fetch` has put into the cache. */
import { existsSync } from 'node:fs';
import { UsageError } from '../../errors.js';
import { isReference, parseReference } from '../../hub/reference.js';
import { fetchDirectory } from '../hub/text-files.js';
import { fetchedMmlu, fetchedTasks } from './fetch.js';

/** @throws UsageError where none is named and none has been fetched */
export async function localTasks(named: string | undefined): Promise<string> {
  if (named === undefined) {
    const directory = fetchedTasks();
    if (existsSync(directory)) return directory;
    throw new UsageError(
      "no task has been fetched: 'yoco data fetch arc-easy piqa' does, or name a directory (--data)",
    );
  }
  if (!isReference(named)) return named;
  return fetchDirectory(
    parseReference(named),
    (path) => /^[^/]+\.jsonl$/.test(path),
    'files NAME.jsonl of tasks',
  );
}

/** @throws UsageError for `mmlu` where that has not been fetched */
export async function localMmlu(named: string): Promise<string> {
  if (isReference(named)) {
    const isQuestions = (path: string): boolean =>
      /^(data\/)?((dev|val|test)\/[^/]+\.csv|subjects\.json)$/.test(path);
    return fetchDirectory(
      parseReference(named),
      isQuestions,
      'files {dev,val,test}/SUBJECT_{dev,val,test}.csv',
    );
  }
  if (named !== 'mmlu' || existsSync(named)) return named;
  const directory = fetchedMmlu();
  if (existsSync(directory)) return directory;
  throw new UsageError(
    "mmlu has not been fetched: 'yoco data fetch mmlu' does, or name a directory (--data)",
  );
}
