/** Colours and symbols of series. */
export const INK = '#1f2328';
export const MUTED_INK = '#59636e';
export const GRID_LINE = '#e3e6ea';

/** Okabe and Ito's colours, which colour-blind readers can tell apart, then darker ones after Tol. */
const COLORS = [
  '#0072b2',
  '#d55e00',
  '#009e73',
  '#cc79a7',
  '#e69f00',
  '#56b4e9',
  '#882255',
  '#999933',
  '#44aa99',
  '#661100',
  '#000000',
];
/** Greys for figures of others. */
const REFERENCE_COLORS = ['#59636e', '#9aa4ae', '#24292f'];
/** The colour in which a reader expects the first series of each kind. */
const ANCHORS: readonly (readonly [prefix: string, color: string])[] = [
  ['yoco', '#0072b2'],
  ['transformer', '#d55e00'],
];
const SYMBOLS = ['circle', 'rect', 'triangle', 'diamond', 'emptyCircle', 'emptyRect', 'emptyTriangle'];

export interface SeriesStyle {
  color: string;
  symbol: string;
}

const isReference = (name: string): boolean => /^(paper|official|pytorch)\b/i.test(name);

/** Takes the first unused colour; beyond the last, colours come again with other symbols. */
function nextColor(colors: readonly string[], used: Map<string, number>): string {
  const uses = (color: string): number => used.get(color) ?? 0;
  const least = Math.min(...colors.map(uses));
  return colors.find((color) => uses(color) === least) ?? INK;
}

/**
 * Styles for the series of one chart: no two have the same colour while colours last, and none has both colour and symbol of
 * another.
 */
export function seriesStyles(names: readonly string[]): SeriesStyle[] {
  const used = new Map<string, number>();
  const take = (color: string): string => {
    used.set(color, (used.get(color) ?? 0) + 1);
    return color;
  };
  const anchored = new Map<number, string>();
  for (const [prefix, color] of ANCHORS) {
    const index = names.findIndex((name) => name.toLowerCase().startsWith(prefix));
    if (index >= 0) anchored.set(index, take(color));
  }
  return names.map((name, index) => ({
    color: anchored.get(index) ?? take(nextColor(isReference(name) ? REFERENCE_COLORS : COLORS, used)),
    symbol: SYMBOLS[index % SYMBOLS.length] ?? 'circle',
  }));
}
