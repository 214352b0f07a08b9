/** The routes of the live page. None of them takes a path: nothing but what the page is made of can be asked for. */
import { Hono, type Context } from 'hono';
import { secureHeaders } from 'hono/secure-headers';
import * as v from 'valibot';
import { YocoError } from '../../errors.js';
import { viewOf } from './charts.js';
import { chartLibrary, livePage, pageScript } from './page.js';
import { nameOf, Reports } from './reports.js';
import { LiveRuns } from './runs.js';

export interface LiveOptions {
  /** Directories of results, each searched with those below it. */
  readonly directories: readonly string[];
  /** As for `buildReport`. */
  readonly references: readonly string[];
}

const MOST_POINTS = 4000;
const QUERY = v.object({
  x: v.optional(v.picklist(['tokens', 'steps', 'hours'])),
  points: v.optional(
    v.pipe(v.string(), v.regex(/^\d{1,6}$/), v.transform(Number), v.minValue(1), v.maxValue(MOST_POINTS)),
    '400',
  ),
});

const SCRIPT = { 'Content-Type': 'text/javascript; charset=utf-8' };

export function createLiveApp({ directories, references }: LiveOptions): Hono {
  const runs = new LiveRuns(directories);
  const reports = new Reports(runs, references);
  const page = livePage(directories.map(nameOf).join(', '));
  const app = new Hono();
  // The page loads nothing from elsewhere, and no page from elsewhere may show it.
  app.use(
    secureHeaders({
      contentSecurityPolicy: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        styleSrc: ["'unsafe-inline'"],
        connectSrc: ["'self'"],
        imgSrc: ["'self'", 'data:'],
        frameAncestors: ["'none'"],
      },
      strictTransportSecurity: false,
    }),
  );
  app.use(async (c, next) => {
    await next();
    c.header('Cache-Control', 'no-cache');
  });
  app.onError((error, c) => {
    if (error instanceof YocoError) return c.text(`${error.message}\n`, 404);
    return c.text(`${error.stack ?? error.message}\n`, 500);
  });
  app.notFound((c) => c.text('there is no such page: / has all links\n', 404));
  app.get('/', (c) => c.html(page));
  app.get('/page.js', async (c) => c.body(await pageScript(), 200, SCRIPT));
  app.get('/echarts.js', (c) => c.body(chartLibrary(), 200, SCRIPT));
  // Every browser asks for it.
  app.get('/favicon.ico', (c) => c.body(null, 204));
  app.get('/view', (c) => view(c, runs));
  app.get('/links', async (c) => c.json(await reports.links()));
  app.get('/report/:index{[0-9]{1,4}}', async (c) =>
    c.html(await reports.page(Number(c.req.param('index')))),
  );
  return app;
}

/** What the page shows now; 304 where the reader has it already. */
function view(c: Context, runs: LiveRuns): Response {
  const query = v.safeParse(QUERY, c.req.query());
  if (!query.success) {
    return c.text(`x is tokens, steps or hours, points a number from 1 to ${MOST_POINTS}\n`, 400);
  }
  runs.refresh();
  const found = viewOf(runs, query.output);
  const tag = `"${found.version}"`;
  if (c.req.header('If-None-Match') === tag) return c.body(null, 304);
  return c.json(found, 200, { ETag: tag });
}
