/** Tables of results: printing and provenance. */
export { lockDirectory } from '../files/lock.js';
export { printRows } from '../results/printers.js';
export { toolkitVersion } from '../package-root.js';
