/** Tokenizers by the names of models on a hub. */
import { UsageError } from '../../errors.js';
import { parseReference } from '../../hub/reference.js';
import { openRepository } from '../../hub/repository.js';

/** A tokenizer and the files beside it that name its tokens. */
const FILES = /^(tokenizer|tokenizer_config|special_tokens_map|config|generation_config)\.json$/;

/**
 * Fetches the tokenizer of a model, without its weights.
 * @returns the directory in which it lies
 * @throws UsageError for a repository that has none, RunError where it cannot be had
 */
export async function fetchTokenizer(named: string): Promise<string> {
  const reference = parseReference(named);
  const repository = await openRepository('model', reference);
  if (repository.files === null) return repository.directory;
  const files = repository.files.filter(({ path }) => FILES.test(path));
  if (!files.some(({ path }) => path === 'tokenizer.json'))
    throw new UsageError(`${named} has no tokenizer.json`);
  return repository.fetch(files);
}
