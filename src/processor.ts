import { readFileSync } from 'node:fs';

/** What the processor can do, as Linux names it; empty where the system does not tell. */
export function processorFlags(): ReadonlySet<string> {
  try {
    const [, flags = ''] = /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8')) ?? [];
    return new Set(flags.split(/\s+/).filter((flag) => flag !== ''));
  } catch {
    return new Set();
  }
}
