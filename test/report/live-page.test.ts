/** `yoco report --serve` as a person sees it: in a browser, while a training writes. */
import { appendFileSync, writeFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type LiveReport, serveReport } from '../../src/report/live/server.js';
import { Chromium, findChromium } from '../browser/chromium.js';
import { scratchDirectory } from '../checkpoint/scratch.js';
import { skipBecause } from '../skip.js';
import { writeRun } from './training-runs.js';

const test = suite('live report in a browser');
const at = scratchDirectory(test);
const path = findChromium();

/** How many curves the first chart has. */
const CURVES = `document.querySelectorAll('#charts section:first-child svg path[fill="none"][stroke-width="1.8"]').length`;
const TABLE = `document.querySelector('#runs').innerText`;
const CHARTS = `document.querySelectorAll('#charts section').length`;

async function looking(body: (browser: Chromium, server: LiveReport) => Promise<void>): Promise<void> {
  writeRun(at('a'), [6, 5, 4.5]);
  writeRun(at('b'), [6, 5.5, 5.25]);
  const server = await serveReport([at('a'), at('b')]);
  const browser = await Chromium.start(path ?? '');
  try {
    await browser.open(server.url);
    await body(browser, server);
  } finally {
    await browser.close();
    await server.stop();
  }
}

if (path === null) skipBecause('no Chromium or Chrome on the path', test, 'the live page');
else {
  test('curves grow, show their values under the pointer, can be hidden, and nothing is loaded from elsewhere', async () => {
    await looking(async (browser, server) => {
      await browser.until(`${CURVES} === 2 && /a\\s+3\\s+300\\s+4.5/.test(${TABLE})`);
      const curve = `document.querySelector('#charts section:first-child svg path[stroke-width="1.8"]').getAttribute('d')`;
      const before = await browser.evaluate(curve);

      appendFileSync(at('a/train.csv'), '4,400,4.25,4.125,ok,\n');
      await browser.until(`/a\\s+4\\s+400\\s+4.25\\s+4.13/.test(${TABLE})`);
      assert.not.equal(await browser.evaluate(curve), before);

      const box = `document.querySelector('#charts .chart').getBoundingClientRect()`;
      const [right, y] = (await browser.evaluate(`[${box}.right - 20, ${box}.top + 60]`)) as [number, number];
      await browser.moveMouse(right - 5, y);
      await browser.moveMouse(right, y);
      // The last of each run, wherever it ends.
      const tip = `document.querySelector('.tip').innerText.replace(/\\s+/g, ' ')`;
      await browser.until(`/a 4.25 at 400 a held-out 4.125 at 400 b 5.25 at 300/.test(${tip})`);

      await browser.evaluate(`document.querySelectorAll('#runs input')[1].click()`);
      await browser.until(`document.querySelectorAll('#charts svg path[stroke="#d55e00"]').length === 0`);
      await browser.evaluate(`(document.querySelector('#x').value = 'steps',
        document.querySelector('#x').dispatchEvent(new Event('change')))`);
      await browser.until(`/steps/.test(document.querySelector('#charts section svg').textContent)`);

      assert.equal(browser.faults, []);
      const elsewhere = browser.requests.filter(
        (url) => !url.startsWith(server.url) && !url.startsWith('data:'),
      );
      assert.equal(elsewhere, []);
    });
  });

  test('held-out texts, links, problems and a server that has ended', async () => {
    await looking(async (browser, server) => {
      await browser.until(`${CHARTS} === 1`);
      writeFileSync(at('a/held-out.csv'), 'step,source,loss,status,error\n2,all,4.5,ok,\n2,<b>,4,ok,\n');
      await browser.until(`${CHARTS} === 3 && document.querySelector('#charts').innerText.includes('<b>')`);
      await browser.until(`document.querySelector('#links a').textContent === 'a: Training'`);
      writeFileSync(at('b/train.csv'), 'step\n"1\n');
      await browser.until(`/cannot read results/.test(document.querySelector('#problems').textContent)`);
      await server.stop();
      await browser.until(`/does not answer/.test(document.querySelector('#problems').textContent)`);
    });
  });
}

test.run();
