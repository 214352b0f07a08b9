/** Which files of a directory are a checkpoint's: those that the layouts of this toolkit write. */
import { existsSync, readdirSync } from 'node:fs';
import type { Kind } from '../files/staging.js';

const CONFIGURATION = /^((config|params)\.json|model\.gguf)$/;
const WEIGHTS =
  /^(model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?|checkpoint\.pth|consolidated(\.00)?\.(pth|safetensors)|model\.gguf)$/;
const BESIDE =
  /^(tokenizer|tokenizer_config|special_tokens_map|generation_config|training)\.json$|^tokenizer\.model$|^training\.safetensors$/;

/** Files of a checkpoint; one without its configuration is none. */
export const CHECKPOINT_FILES: Kind = {
  belongs: (name) => [CONFIGURATION, WEIGHTS, BESIDE].some((pattern) => pattern.test(name)),
  marks: (name) => CONFIGURATION.test(name),
};

/** Names of the files of a checkpoint in a directory, and whether weights are among them. */
export function checkpointFiles(directory: string): { names: string[]; hasWeights: boolean } {
  const names = existsSync(directory) ? readdirSync(directory).filter(CHECKPOINT_FILES.belongs) : [];
  return { names, hasWeights: names.some((name) => WEIGHTS.test(name)) };
}
