/** Configurations read from the files of others. */
import { RunError, UsageError } from '../../errors.js';
import { createConfig } from '../../model/config.js';
import type { ConfigInput, ModelConfig } from '../../model/config.js';

/** A configuration from a file's fields; what is wrong with them is said with the file's name. */
export function configFrom(
  file: string,
  input: Readonly<Record<string, unknown>> | ConfigInput,
): ModelConfig {
  try {
    return createConfig(input);
  } catch (error) {
    if (error instanceof UsageError) throw new RunError(`${file}: ${error.message}`, { cause: error });
    throw error;
  }
}
