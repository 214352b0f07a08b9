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

/** The models that flags name, as the library takes them. */
export function modelSelection(flags: ModelFlags): ModelSelection {
  return {
    architectures: flags.arch,
    layouts: flags.layout,
    presets: flags.preset,
    configs: flags.config,
    checkpoints: flags.checkpoint,
    selfDecoders: flags['self-decoder'],
  };
}
