/** Code points of texts, whose UTF-16 units may come in surrogate pairs. */

/** Counts code points; half a pair is one. */
export const codePoints = (text: string): number => {
  let count = text.length;
  for (let at = 1; at < text.length; at++) {
    if (isLow(text.charCodeAt(at)) && isHigh(text.charCodeAt(at - 1))) count -= 1;
  }
  return count;
};

const isHigh = (unit: number): boolean => unit >= 0xd800 && unit < 0xdc00;
const isLow = (unit: number): boolean => unit >= 0xdc00 && unit < 0xe000;

/** A place at or before `at` that does not divide a surrogate pair. */
export function wholeCharacters(text: string, at: number): number {
  const divides = at > 0 && isLow(text.charCodeAt(at)) && isHigh(text.charCodeAt(at - 1));
  return divides ? at - 1 : at;
}
