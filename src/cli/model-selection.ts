import type { Architecture, SelfDecoderKind } from '../model/config.js';
import type { ModelSelection } from '../sweep/models.js';

/** The parsed `modelFlags`. */
export interface ModelFlags {
  readonly arch?: readonly Architecture[];
  readonly layout?: readonly string[];
  readonly preset?: readonly string[];
  readonly config?: readonly string[];
  readonly checkpoint?: readonly string[];
  readonly 'self-decoder'?: readonly SelfDecoderKind[];
}

/**
 * The models that flags name, as the library takes them. Checkpoints on a hub are fetched.
 * @throws UsageError or RunError where one cannot be had
 */
export async function modelSelection(flags: ModelFlags): Promise<ModelSelection> {
  return {
    architectures: flags.arch,
    layouts: flags.layout,
    presets: flags.preset,
    configs: flags.config,
    checkpoints: await localCheckpoints(flags.checkpoint),
    selfDecoders: flags['self-decoder'],
  };
}

async function localCheckpoints(named: readonly string[] | undefined): Promise<string[] | undefined> {
  if (named === undefined) return undefined;
  const { localCheckpoint } = await import('../library/hub.js');
  const directories: string[] = [];
  for (const name of named) directories.push(await localCheckpoint(name));
  return directories;
}
