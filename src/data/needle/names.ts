/** Names made up for the needle test: new ones, and ones easily mistaken for another. */
import type { Random } from '../../random.js';

const ONSETS = 'b,br,c,ch,d,dr,f,g,gr,h,j,k,kh,l,m,n,p,r,s,sh,st,t,th,tr,v,w,y,z'.split(',');
const VOWELS = 'a,a,e,e,i,i,o,o,u,ai,ea,ia,ou'.split(',');
const CODAS = ',,,,l,m,n,n,r,r,s,t,nd,ng,rk,st'.split(',');
const LETTERS = 'abcdefghijklmnopqrstuvwxyz';

const capitalized = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function syllables(count: number, random: Random): string {
  return Array.from(
    { length: count },
    () => random.pick(ONSETS) + random.pick(VOWELS) + random.pick(CODAS),
  ).join('');
}

/** A word like the name of a city, of two to four syllables; one in ten has two words. */
export function inventedName(random: Random): string {
  const name = capitalized(syllables(2 + random.below(3), random));
  return random.below(10) > 0 ? name : `${name} ${capitalized(syllables(1 + random.below(2), random))}`;
}

/** Another name, with one letter replaced, left out or put in, or with another ending after at least the first half. */
export function similarName(name: string, random: Random): string {
  for (;;) {
    const changed = changedName(name, random);
    if (changed !== name) return changed;
  }
}

function changedName(name: string, random: Random): string {
  // The first letter stays, and spaces: neither makes the names of two cities alike.
  const places = Array.from(name, (_, index) => index).filter(
    (index) => index > 0 && name.charAt(index) !== ' ' && name.charAt(index - 1) !== ' ',
  );
  const at = random.pick(places);
  const [before, after] = [name.slice(0, at), name.slice(at + 1)];
  const letter = LETTERS.charAt(random.below(LETTERS.length));
  const kind = random.below(4);
  if (kind === 0) return before + letter + after;
  if (kind === 1 && name.length > 4) return before + after;
  if (kind === 2) return before + letter + name.charAt(at) + after;
  const half = Math.ceil(name.length / 2);
  return name.slice(0, half + random.below(name.length - half)).trimEnd() + syllables(1, random);
}
