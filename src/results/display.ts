/** How a person reads a number. */
import { escapeControls } from '../printable.js';
import type { Cell, Column } from './schema.js';

const BINARY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** Three significant digits, without an exponent from 0.001 to 999,999. */
export function formatNumber(value: number): string {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(2);
  if (size >= 1000) return Math.round(value).toLocaleString('en-US');
  return String(Number(value.toPrecision(3)));
}

/** 13314398618 → `12.4 GiB`. */
export function formatBytes(bytes: number): string {
  const unit = Math.min(Math.floor(Math.log2(Math.max(1, Math.abs(bytes))) / 10), BINARY_UNITS.length - 1);
  return `${formatNumber(bytes / 1024 ** unit)} ${BINARY_UNITS[unit] ?? ''}`;
}

/** 65,536 → `64k`; counts that are no multiple of 1,024 stay plain. */
export function formatTokenCount(count: number): string {
  if (count >= 1048576 && count % 1048576 === 0) return `${count / 1048576}m`;
  if (count >= 1024 && count % 1024 === 0) return `${count / 1024}k`;
  return String(count);
}

const COMPACT = new Intl.NumberFormat('en-US', { notation: 'compact', maximumSignificantDigits: 3 });

/** 20,480,000 → `20.5M`. */
export const formatCount = (count: number): string => COMPACT.format(count);

export function formatSeconds(seconds: number): string {
  if (seconds >= 1 || seconds === 0) return `${formatNumber(seconds)} s`;
  return seconds >= 1e-3 ? `${formatNumber(seconds * 1e3)} ms` : `${formatNumber(seconds * 1e6)} µs`;
}

/** A cell for `--format table`; not measured is `–`. */
export function displayCell(column: Column, cell: Cell | undefined): string {
  if (cell === null || cell === undefined) return '–';
  if (typeof cell !== 'number') return escapeControls(String(cell));
  switch (column.display) {
    case 'bytes':
      return formatBytes(cell);
    case 'seconds':
      return formatSeconds(cell);
    case 'percent':
      return `${formatNumber(cell * 100)} %`;
    case 'count':
      return Number.isInteger(cell) ? cell.toLocaleString('en-US') : formatNumber(cell);
    case 'plain':
      return String(cell);
    case undefined:
      return Number.isInteger(cell) ? String(cell) : formatNumber(cell);
  }
}
