/** Models that answer a needle's question by a rule. */
import { StubModel } from '../stub-model.js';

/** Answers with the number that `find` sees in the prompt, then ends the text. */
export function answering(find: (prompt: string, city: string) => string | undefined): StubModel {
  return new StubModel(264, (context) => {
    const text = Buffer.from(context.filter((id) => id < 256)).toString();
    const [, prompt = '', city = '', given = ''] =
      /^(.*)\nWhat is the special magic (.*) number\? The special magic .* number is (\d*)/s.exec(text) ?? [];
    const answer = find(prompt, city) ?? '';
    return answer.startsWith(given) && answer !== given ? answer.charCodeAt(given.length) : 256;
  });
}

export const needleOf = (prompt: string, city: string): string | undefined =>
  new RegExp(`The special magic ${city} number is (\\d+)`).exec(prompt)?.[1];

export const perfect = (): StubModel => answering(needleOf);
/** Takes the last needle whatever the city. */
export const hasty = (): StubModel =>
  answering((prompt) => [...prompt.matchAll(/number is (\d+)/g)].at(-1)?.[1]);
