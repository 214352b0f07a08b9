/** Colours and symbols of series: Okabe and Ito's, which colour-blind readers can tell apart. */
export const INK = '#1f2328';
export const MUTED_INK = '#59636e';
export const GRID_LINE = '#e3e6ea';

const FAMILIES: readonly (readonly [prefix: string, colors: readonly string[]])[] = [
  ['yoco', ['#0072b2', '#56b4e9', '#004b75']],
  ['transformer', ['#d55e00', '#e69f00', '#8c3d00']],
  ['paper', ['#59636e', '#8b949e', '#3d444d']],
];
const OTHERS = ['#009e73', '#cc79a7', '#f0e442', '#000000'];
const SYMBOLS = ['circle', 'rect', 'triangle', 'diamond', 'emptyCircle', 'emptyRect'];

export interface SeriesStyle {
  color: string;
  symbol: string;
}

/** Styles for the series of one chart: a family's second member gets the family's second colour. */
export function seriesStyles(names: readonly string[]): SeriesStyle[] {
  const used = new Map<readonly string[], number>();
  return names.map((name, index) => {
    const lower = name.toLowerCase();
    const colors = FAMILIES.find(([prefix]) => lower.startsWith(prefix))?.[1] ?? OTHERS;
    const position = used.get(colors) ?? 0;
    used.set(colors, position + 1);
    return {
      color: colors[position % colors.length] ?? INK,
      symbol: SYMBOLS[index % SYMBOLS.length] ?? 'circle',
    };
  });
}
