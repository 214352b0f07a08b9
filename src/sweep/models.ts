/** From names of presets, configuration files and checkpoints to the models of a run. */
import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { basename, dirname, relative, resolve } from 'node:path';
import type { OpenCheckpoint } from '../checkpoint/open.js';
import { openCheckpoint } from '../checkpoint/open.js';
import { PIECE_BYTES } from '../checkpoint/tensor-source.js';
import { readJson } from '../checkpoint/files.js';
import { RunError, UsageError } from '../errors.js';
import { snapshotOf } from '../hub/cache.js';
import { createConfig, type Architecture, type SelfDecoderKind } from '../model/config.js';
import { LAYOUT_NAMES, LAYOUTS, type LayoutDefinition } from '../model/layouts.js';
import { presetArchitectures, presetConfig } from '../model/presets.js';
import type { Json } from '../results/canonical.js';
import { modelKey, modelLabel, type ModelChoice } from './model-key.js';

/** Which models a run works on. Presets, configurations and checkpoints exclude one another. */
export interface ModelSelection {
  /** Of presets: which of their architectures; of the others: what they must be. */
  readonly architectures?: readonly Architecture[];
  /** Of presets: names of layouts, or layouts written out, in place of `architectures`. */
  readonly layouts?: readonly string[];
  readonly presets?: readonly string[];
  /** JSON files. */
  readonly configs?: readonly string[];
  /** Directories. */
  readonly checkpoints?: readonly string[];
  /** Mixers of the self-decoder, for presets and the layouts that leave it open. */
  readonly selfDecoders?: readonly SelfDecoderKind[];
}

export const DEFAULT_PRESET = 'tiny';

/**
 * The models of a selection, in the order given; YOCO of preset `tiny` when it names none.
 *
 * @throws UsageError for unknown presets, invalid configurations, an architecture none of them has, or a model named twice
 * @throws RunError for a damaged checkpoint
 */
export function chooseModels(selection: ModelSelection, defaultPreset = DEFAULT_PRESET): ModelChoice[] {
  const { architectures, checkpoints, configs, layouts, presets = [defaultPreset], selfDecoders } = selection;
  if (layouts && (architectures ?? checkpoints ?? configs)) {
    throw new UsageError(
      'a layout is chosen for presets (--layout with --preset): leave out the architecture, configuration or checkpoint',
    );
  }
  if (selfDecoders && (checkpoints ?? configs)) {
    throw new UsageError(
      'a self-decoder is chosen for presets (--self-decoder with --preset): a configuration or checkpoint has its own',
    );
  }
  if (checkpoints) return only(architectures, checkpoints.map(fromCheckpoint), checkDirectories);
  if (configs) return only(architectures, configs.map(fromFile), checkNames);
  requireAll(presets, architectures);
  return checkNames(
    presets.flatMap((name) => {
      const requested = layouts?.map(layoutRequest) ?? architectureRequests(name, architectures);
      return fromPreset(name, requested, selfDecoders);
    }),
  );
}

/** An architecture that no preset has is refused: a comparison would silently lack it. */
function requireAll(presets: readonly string[], architectures: readonly Architecture[] = []): void {
  for (const architecture of architectures) {
    const [first] = presets;
    if (first === undefined || presets.some((name) => presetArchitectures(name).includes(architecture)))
      continue;
    presetConfig(first, architecture);
  }
}

/** Results are kept by model: two that cannot be told apart would overwrite each other. */
function checkNames(choices: ModelChoice[]): ModelChoice[] {
  const labels = choices.map(modelLabel);
  const twice = labels.find((label, index) => labels.indexOf(label) < index);
  if (twice !== undefined) throw new UsageError(`two models are called '${twice}': name each once`);
  return choices;
}

/** Checkpoints of one name are told apart by their paths. */
function checkDirectories(choices: ModelChoice[]): ModelChoice[] {
  const paths = choices.map(
    ({ checkpoint }) => checkpoint && `${realpathSync(checkpoint.directory)}#${checkpoint.stateDict ?? ''}`,
  );
  const twice = choices.find((_, index) => paths.indexOf(paths[index]) < index);
  if (twice !== undefined) {
    throw new UsageError(`checkpoint ${twice.checkpoint?.directory ?? ''} is given twice: name each once`);
  }
  return distinctNames(choices);
}

/** The one model of a command that works on one. */
export const chooseModel = (selection: ModelSelection, defaultPreset = DEFAULT_PRESET): ModelChoice =>
  onlyModel(chooseModels(selection, defaultPreset));

/** @throws UsageError unless there is exactly one */
export function onlyModel([choice, ...others]: readonly ModelChoice[]): ModelChoice {
  if (choice === undefined || others.length > 0) {
    throw new UsageError(
      'this command works on one model: name one architecture, preset, config or checkpoint',
    );
  }
  return choice;
}

function only(
  requested: readonly Architecture[] | undefined,
  choices: ModelChoice[],
  check: (choices: ModelChoice[]) => ModelChoice[],
): ModelChoice[] {
  for (const { name, config } of choices) {
    if (requested && !requested.includes(config.architecture)) {
      throw new UsageError(
        `'${name}' is a ${config.architecture}, not a ${requested.join(' or ')}: leave the architecture out (--arch)`,
      );
    }
  }
  return check(choices);
}

/** A layout that a preset is asked for; the words, where it has no name. */
interface LayoutRequest {
  readonly architecture: Architecture;
  readonly layout?: string;
}

function layoutRequest(text: string): LayoutRequest {
  const name = LAYOUT_NAMES.find((candidate) => candidate === text.trim());
  return name ? { architecture: name } : { architecture: 'custom', layout: text };
}

/** Those of the requested architectures that the preset has; its first where none are named. */
function architectureRequests(name: string, requested: readonly Architecture[] | undefined): LayoutRequest[] {
  const available = presetArchitectures(name);
  const found =
    requested?.filter((architecture) => available.includes(architecture)) ?? available.slice(0, 1);
  // An unknown name or one without the requested architecture is refused by the presets themselves.
  const [first = requested?.[0] ?? 'yoco'] = found;
  return (found.length > 0 ? found : [first]).map((architecture) => ({ architecture }));
}

/** Whether the layout leaves the mixer of constant state open. */
function isOpen({ architecture }: LayoutRequest): boolean {
  const definition: LayoutDefinition = LAYOUTS[architecture];
  return definition.takes.includes('selfDecoder');
}

function fromPreset(
  name: string,
  requests: readonly LayoutRequest[],
  selfDecoders: readonly SelfDecoderKind[] | undefined,
): ModelChoice[] {
  if (selfDecoders && !requests.some(isOpen)) {
    const asked = requests.map(({ layout, architecture }) => layout ?? architecture).join(', ');
    throw new UsageError(
      `a self-decoder (--self-decoder) is for architecture yoco and layouts that leave it open; preset '${name}' was asked for as ${asked}`,
    );
  }
  return requests.flatMap((request) => {
    const { architecture, ...overrides } = request;
    const mixers = isOpen(request) && selfDecoders ? selfDecoders : [undefined];
    return mixers.map((selfDecoder) => ({
      name,
      config: presetConfig(name, architecture, { ...overrides, ...(selfDecoder && { selfDecoder }) }),
    }));
  });
}

/** A file a person named: what is wrong with it is wrong usage. */
function readConfiguration(file: string): Record<string, unknown> {
  try {
    return readJson(file);
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    throw new UsageError(`the configuration: ${error.message}`, { cause: error });
  }
}

function fromFile(file: string): ModelChoice {
  const fields = readConfiguration(file);
  // Also the config.json of Hugging Face's models, which names their architecture so.
  if ('format' in fields || 'model_type' in fields) {
    throw new UsageError(
      `${file} is the configuration of a checkpoint: name its directory (--checkpoint ${dirname(file)})`,
    );
  }
  try {
    return { name: basename(file).replace(/\.json$/, ''), config: createConfig(fields) };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(`${file}: ${error.message}`, { cause: error });
  }
}

function fromCheckpoint(directory: string): ModelChoice {
  const checkpoint = openCheckpoint(directory);
  const name = snapshotOf(checkpoint.directory)?.repository ?? directory;
  return { name: basename(resolve(name)), config: checkpoint.config, checkpoint };
}

/** SHA-256 over the names and bytes of all tensors: the same for the same weights in any layout of files. */
export function checkpointHash({ tensors }: OpenCheckpoint): string {
  const hash = createHash('sha256');
  const scratch = new Uint8Array(PIECE_BYTES);
  for (const name of tensors.names()) {
    hash.update(name);
    for (const piece of tensors.pieces(name, scratch)) hash.update(piece);
  }
  return hash.digest('hex');
}

/** Everything that determines the model: what its cells are keyed by. */
export function modelSettings({ config, checkpoint }: ModelChoice, seed: number): Json {
  return { config: { ...config }, weights: checkpoint ? checkpointHash(checkpoint) : { seed } };
}

/** Checkpoints of one base name are told apart by their paths. */
export function distinctNames(choices: readonly ModelChoice[]): ModelChoice[] {
  const text = (choice: ModelChoice): string => JSON.stringify(modelKey(choice));
  return choices.map((choice) => {
    const alike = choices.filter((other) => text(other) === text(choice));
    if (alike.length === 1 || !choice.checkpoint) return choice;
    return { ...choice, name: distinctName(choice.checkpoint.directory) };
  });
}

/** `owner/name@1234abc` of a snapshot from a hub, else the path. */
function distinctName(directory: string): string {
  const snapshot = snapshotOf(directory);
  if (snapshot === null) return relative(process.cwd(), directory) || '.';
  return `${snapshot.repository}@${snapshot.commit.slice(0, 7)}`;
}
