/** Kernels that may start before those ahead of them have ended. */
import { kernelSource } from '../../../src/engines/cuda/sources.js';
import type { Launch } from './stand-in.js';

/** From the brace behind what `pattern` finds to the end of the function. */
function bodyOf(source: string, pattern: string): string {
  const start = new RegExp(pattern).exec(source)?.index;
  if (start === undefined) return '';
  const brace = source.indexOf('{', start);
  return source.slice(brace, source.indexOf('\n}', brace));
}

/** Whether the source of a kernel that is launched early says that it waits for the one before it. */
export function waits({ name, early: file = '' }: Launch): boolean {
  const { source: own, headers } = kernelSource(file);
  const source = [...Object.values(headers), own].join('\n');
  const body = bodyOf(source, `KERNEL (__launch_bounds__\\([^)]*\\) )?${name}\\(`);
  // In the kernel itself, or in a function that it calls.
  const called = Array.from(
    body.matchAll(/\b(normalize|norm_grad|rotate|gemv_rows|gemv_float8_rows|load_queries|run_stages)[<(]/g),
    ([, inner]) => bodyOf(source, `DEVICE void ${inner}\\(`),
  );
  return [body, ...called].some((text) => /^{\s*griddep_sync\(\);|griddep_wait\(\);/.test(text));
}
