/** Error bars, which echarts has no series for: a line from one end of an interval to the other, with caps. */
import type { CustomSeriesOption } from 'echarts';

const CAP = 4;

/** @param bars x and both ends, in the units of the axes */
export function errorBars(
  bars: readonly (readonly [x: number, low: number, high: number])[],
  color: string,
): CustomSeriesOption {
  return {
    type: 'custom',
    data: bars.map((bar) => [...bar]),
    encode: { x: 0, y: [1, 2] },
    silent: true,
    z: 1,
    renderItem: (_parameters, api) => {
      const point = (end: 1 | 2): number[] => api.coord([api.value(0), api.value(end)]);
      const [x = 0, low = 0] = point(1);
      const [, high = 0] = point(2);
      const style = { stroke: color, lineWidth: 1.2, opacity: 0.8 };
      const line = (x1: number, y1: number, x2: number, y2: number) =>
        ({ type: 'line', shape: { x1, y1, x2, y2 }, style }) as const;
      return {
        type: 'group',
        children: [
          line(x, low, x, high),
          line(x - CAP, low, x + CAP, low),
          line(x - CAP, high, x + CAP, high),
        ],
      };
    },
  };
}
