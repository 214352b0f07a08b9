/** Configurations read from the files of others. */
import { RunError, UsageError } from '../../errors.js';
import { createConfig } from '../../model/config.js';
import type { ConfigInput, ModelConfig } from '../../model/config.js';

/**
 * A configuration from a file's fields; what is wrong with them is said with the file's name.
 * @param names what the file calls our fields, for those that it calls otherwise
 */
export function configFrom(
  file: string,
  input: Readonly<Record<string, unknown>> | ConfigInput,
  names: Readonly<Record<string, string>> = {},
): ModelConfig {
  try {
    return createConfig(input);
  } catch (error) {
    if (error instanceof UsageError) {
      const message = error.message.replace(/\b[a-z]\w+\b/gi, (word) => names[word] ?? word);
      throw new RunError(`${file}: ${message}`, { cause: error });
    }
    throw error;
  }
}
