/** Several charts as one picture. */

interface Size {
  readonly width: number;
  readonly height: number;
}

function sizeOf(svg: string): Size {
  const [, width, height] = /^<svg width="(\d+)" height="(\d+)"/.exec(svg) ?? [];
  if (width === undefined || height === undefined) throw new Error('a chart without width and height');
  return { width: Number(width), height: Number(height) };
}

/** Charts of `lineChart` and `heatMap` below each other in one SVG. */
export function stackCharts(charts: readonly string[]): string {
  const sizes = charts.map(sizeOf);
  const width = Math.max(...sizes.map((size) => size.width));
  const height = sizes.reduce((sum, size) => sum + size.height, 0);
  let top = 0;
  const parts = charts.map((svg, index) => {
    const part = svg.replace('<svg ', `<svg y="${top}" `);
    top += sizes[index]?.height ?? 0;
    return part;
  });
  const opening = `<svg width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" xmlns="http://www.w3.org/2000/svg">`;
  return [opening, ...parts, '</svg>'].join('\n');
}
