/** What the post-processor of a `tokenizer.json` puts around a text. */
import { RunError } from '../../errors.js';
import { isFields, type Fields } from './json.js';

export interface Surroundings {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

const NOTHING: Surroundings = { before: [], after: [] };

/**
 * @param processor the field `post_processor`
 * @returns null where there is none
 * @throws RunError for a kind of post-processor that is not known
 */
export function surroundings(file: string, processor: unknown): Surroundings | null {
  if (processor === null || processor === undefined) return null;
  if (!isFields(processor)) throw new RunError(`${file}: its 'post_processor' is not an object`);
  switch (processor.type) {
    case 'TemplateProcessing':
      return fromTemplate(file, processor);
    case 'BertProcessing':
    case 'RobertaProcessing':
      return { before: [pairId(file, processor, 'cls')], after: [pairId(file, processor, 'sep')] };
    case 'ByteLevel':
      return NOTHING;
    case 'Sequence':
      return fromSequence(file, processor);
    default:
      throw new RunError(`${file}: a post_processor of type ${JSON.stringify(processor.type)} is not known`);
  }
}

/** Each processor works on what the one before gives. */
function fromSequence(file: string, { processors }: Fields): Surroundings {
  if (!Array.isArray(processors)) throw new RunError(`${file}: its post_processor has no list 'processors'`);
  return processors.reduce<Surroundings>(({ before, after }, processor) => {
    const outer = surroundings(file, processor) ?? NOTHING;
    return { before: [...outer.before, ...before], after: [...after, ...outer.after] };
  }, NOTHING);
}

function pairId(file: string, processor: Fields, name: string): number {
  const pair = processor[name];
  const id: unknown = Array.isArray(pair) ? pair[1] : undefined;
  if (typeof id === 'number') return id;
  throw new RunError(`${file}: its post_processor has no '${name}' of token and id`);
}

/** `single` is a list such as `<s>`, the sequence A, `</s>`; `special_tokens` gives their ids. */
function fromTemplate(file: string, { single, special_tokens: special }: Fields): Surroundings {
  if (!Array.isArray(single) || !isFields(special)) {
    throw new RunError(`${file}: its template has no list 'single' or no 'special_tokens'`);
  }
  const pieces = single as readonly unknown[];
  const isText = (piece: unknown): boolean => isFields(piece) && 'Sequence' in piece;
  const at = pieces.findIndex(isText);
  if (at < 0 || pieces.filter(isText).length > 1) {
    throw new RunError(`${file}: its template for one text does not hold that text once`);
  }
  const idsOf = (piece: unknown): readonly number[] => {
    const name = isFields(piece) && isFields(piece.SpecialToken) ? piece.SpecialToken.id : undefined;
    const token = typeof name === 'string' ? special[name] : undefined;
    const ids = isFields(token) ? token.ids : undefined;
    if (Array.isArray(ids) && ids.every((id) => typeof id === 'number')) return ids;
    throw new RunError(`${file}: its template names ${JSON.stringify(name)}, of which it gives no ids`);
  };
  return { before: pieces.slice(0, at).flatMap(idsOf), after: pieces.slice(at + 1).flatMap(idsOf) };
}
