import type { XAXisComponentOption, YAXisComponentOption } from 'echarts';
import {
  formatBytes,
  formatCount,
  formatNumber,
  formatSeconds,
  formatTokenCount,
} from '../results/display.js';
import { GRID_LINE, INK } from './colors.js';
import { greatest, least } from '../sweep/statistics.js';

export interface Axis {
  /** With its unit where the tick labels do not show one: `loss (nats per byte)`. */
  label: string;
  scale?: 'linear' | 'log';
  /** How tick labels read. */
  unit?: 'tokens' | 'bytes' | 'seconds' | 'percent' | 'count' | 'plain';
  /** Ends of the axis. Default: what encloses the values. */
  range?: readonly [least: number, most: number];
}

const FORMATS: Readonly<Record<NonNullable<Axis['unit']>, (value: number) => string>> = {
  // Between ticks of a linear axis a count need not be whole.
  tokens: (value) => formatTokenCount(Math.round(value)),
  bytes: formatBytes,
  seconds: formatSeconds,
  percent: (value) => `${Math.round(value * 100)} %`,
  count: formatCount,
  plain: formatNumber,
};

/** Powers of four fit both binary units; decades fit the rest. */
const logBase = (axis: Axis): number => (axis.unit === 'tokens' || axis.unit === 'bytes' ? 4 : 10);

/** The powers of `base` that enclose the values. */
function logBounds(values: readonly number[], base: number): { min?: number; max?: number } {
  if (values.length === 0) return {};
  const power = (value: number): number => Math.log(value) / Math.log(base);
  const low = Math.floor(power(least(values)) + 1e-9);
  const high = Math.ceil(power(greatest(values)) - 1e-9);
  return { min: base ** low, max: base ** Math.max(high, low + 1) };
}

/** A value as the axis writes it. */
export const formatAt = (axis: Axis, value: number): string => FORMATS[axis.unit ?? 'plain'](value);

type AxisOption = XAXisComponentOption & YAXisComponentOption;

export function axisOption(axis: Axis, values: readonly number[], side: 'x' | 'y'): AxisOption {
  const format = FORMATS[axis.unit ?? 'plain'];
  const log = axis.scale === 'log';
  return {
    ...(log
      ? { type: 'log', logBase: logBase(axis), ...logBounds(values, logBase(axis)) }
      : { type: 'value', scale: true }),
    ...(axis.range && { min: axis.range[0], max: axis.range[1] }),
    name: log ? `${axis.label}, log scale` : axis.label,
    nameLocation: 'middle',
    nameGap: side === 'x' ? 36 : 66,
    nameTextStyle: { color: INK },
    axisLine: { show: side === 'x', lineStyle: { color: INK } },
    axisLabel: { color: INK, hideOverlap: true, formatter: (value: number) => format(value) },
    splitLine: { show: true, lineStyle: { color: GRID_LINE } },
  };
}
