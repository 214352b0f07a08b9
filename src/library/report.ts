/** Pages and pictures of results. Not part of `src/index.ts`: drawing loads a library of charts. */
export { buildReport } from '../report/build-report.js';
export { serveReport, type LiveReport, type LiveReportOptions } from '../report/live/server.js';
export { writeNeedleFigures } from '../report/needle-figures.js';
export { writePerplexityFigures } from '../report/perplexity-figure.js';
