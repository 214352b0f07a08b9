import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { scratchDirectory } from '../checkpoint/scratch.js';
import { runCli } from '../cli/run.js';
import { writeLines } from './tables.js';

const test = suite('report: sections');
const at = scratchDirectory(test);
const write = (path: string, lines: readonly string[]): void => {
  writeLines(at(path), lines);
};

test('needles, multiple choice, long documents and ratios each have their part', async () => {
  write('needle.csv', [
    'model,architecture,self_decoder,haystack,variant,needles,context,depth,trials,correct,accuracy,status,error',
    'small,yoco,gated-retention,moby-dick,standard,1,4096,0,4,3,0.75,ok,',
  ]);
  write('needle-contexts.csv', [
    'model,architecture,self_decoder,haystack,variant,needles,context,trials,accuracy,interval_low,interval_high',
    'small,yoco,gated-retention,moby-dick,standard,1,4096,4,0.75,0.301,0.954',
  ]);
  write('eval-mmlu.csv', [
    'model,architecture,self_decoder,data,level,name,questions,accuracy,standard_error,chance,status,error',
    'small,yoco,gated-retention,mmlu,subject,astronomy,9,0.9,0.1,0.25,ok,',
    'small,yoco,gated-retention,mmlu,average,micro,57,0.375,0.0125,0.25,ok,',
    'other,transformer,,mmlu,average,micro,57,0.5,0.0125,0.25,ok,',
  ]);
  write('perplexity.csv', [
    'model,architecture,self_decoder,document,position,loss,status,error',
    'small,yoco,gated-retention,a.txt,256,2.5,ok,',
    'small,yoco,gated-retention,a.txt,1024,2.25,ok,',
    'small,yoco,gated-retention,a.txt,4096,2.025,ok,',
  ]);
  write('profile-memory.csv', [
    'model,architecture,self_decoder,context,kv_cache_bytes,total_bytes,status,error',
    'small,yoco,gated-retention,1048576,100,1000,ok,',
    'small,transformer,,1048576,8000,9400,ok,',
  ]);
  await runCli('report', at());
  const html = readFileSync(at('report.html'), 'utf8');
  const texts = [
    '>75 %</text>',
    '30.1 % – 95.4 %',
    '37.5 % ± 1.3',
    '50.0 % ± 1.3',
    'Long documents',
    '<td>a.txt</td><td class="number">256</td><td class="number">4k</td><td class="number">0.076</td>',
    '80.0×',
    '9.40×',
  ];
  for (const text of texts) assert.ok(html.includes(text), text);
  assert.ok(!html.includes('astronomy'), 'subjects stay in the table');
});

test('long documents: runs with documents of their own have pictures of their own, passages too', async () => {
  const means = (loss: number): string[] => [
    'model,architecture,self_decoder,document,position,loss,loss_error,status,error',
    `small,yoco,gated-retention,mean,256,${loss},0.1,ok,`,
    `small,yoco,gated-retention,mean,1024,${loss - 1},0.1,ok,`,
  ];
  for (const name of ['books', 'code', 'passages']) mkdirSync(at(`long/${name}`), { recursive: true });
  write('long/books/perplexity.csv', means(4));
  write('long/code/perplexity.csv', means(8));
  write('long/passages/passages.csv', [
    'model,architecture,self_decoder,context,answer_tokens,answer_loss,answer_error,answer_perplexity,status,error',
    'small,yoco,gated-retention,1024,77,3.5,0.1,33.1,ok,',
    'small,yoco,gated-retention,4096,77,3.25,0.1,25.8,ok,',
  ]);
  await runCli('report', at('long'));
  const picture = (name: string): string => readFileSync(at(`long/figures/${name}.svg`), 'utf8');
  // The points of one run: a line from the left to the right, never back.
  const [books, code] = [picture('books-perplexity'), picture('code-perplexity')];
  assert.ok(books.includes('>4</text>') && !books.includes('>8</text>'));
  assert.ok(code.includes('>8</text>') && !code.includes('>4</text>'));
  assert.ok(picture('passages-passages').includes('77 tokens that the longest context gives away'));
  const html = readFileSync(at('long/report.html'), 'utf8');
  for (const name of ['books', 'code', 'passages']) assert.ok(html.includes(`<h3>${name}</h3>`), name);
});

test('recall: seeds together, the best training in the pictures, the most items of each length', async () => {
  const row = (model: string, length: number, items: number, accuracy: number): string =>
    `${model},yoco,gated-retention,mqar,1,${length},${items},checkpoint,1000,4096,${64 * length},10,100,50,${accuracy},0.01,ok,`;
  mkdirSync(at('recall'));
  write('recall/eval-recall.csv', [
    'model,architecture,self_decoder,task,version,length,items,weights,parameters,state_bytes,key_value_bytes,sequences,questions,correct,accuracy,accuracy_error,status,error',
    row('low-seed1', 64, 4, 0.9),
    row('low-seed1', 64, 8, 0.25),
    row('low-seed2', 64, 8, 0.5),
    row('low-seed1', 256, 8, 0.1),
    row('low-seed2', 256, 8, 0.2),
    row('high-seed1', 64, 8, 0.75),
    row('high-seed2', 64, 8, 0.875),
    row('high-seed1', 256, 8, 0.5),
    row('high-seed2', 256, 8, 0.75),
  ]);
  await runCli('report', at('recall'));
  const html = readFileSync(at('recall/report.html'), 'utf8');
  const picture = readFileSync(at('recall/figures/recall-mqar.svg'), 'utf8');
  // Means of two seeds; 0.9 is of one seed with fewer items.
  assert.match(html, /yoco low<\/td>.*>2<\/td>.*>37\.5 %</);
  assert.match(html, /yoco low<\/td>.*>1<\/td>.*>90\.0 %</);
  assert.match(picture, /yoco high: 81 % at 64, 63 % at 256\./);
  assert.not.match(picture, /yoco low/);
  assert.match(
    readFileSync(at('recall/figures/recall-mqar-size.svg'), 'utf8'),
    /mqar: accuracy against what a sequence keeps.*yoco: 63 % at 20 KiB\./,
  );
});

test('a sampled prefill is marked, and gives way to a whole one', async () => {
  const keys = 'model,architecture,self_decoder,early_exit,context';
  const cells = ['yoco-3b,yoco,gated-retention,true,1024', 'transformer-3b,transformer,,true,1024'];
  const table = (place: string, rows: readonly string[]): void => {
    mkdirSync(at(place), { recursive: true });
    write(`${place}/profile-prefill.timings.csv`, [`${keys},prefilled_tokens,seconds_median`, ...rows]);
  };
  const page = async (): Promise<string> => {
    await runCli('report', at());
    return readFileSync(at('report.html'), 'utf8');
  };
  table('a', [`${cells[0] ?? ''},1024,0.5`]);
  table('b', [`${cells[1] ?? ''},256,20`]);
  const sampled = await page();
  for (const text of ['≈ 40.0×', 'transformer-3b, from sampled chunks'])
    assert.ok(sampled.includes(text), text);
  const ratios = (): string[] => readFileSync(at('ratios.timings.csv'), 'utf8').trimEnd().split('\n');
  const header =
    'model,self_decoder,baseline,types,context,quantity,yoco,transformer,ratio,integrated,yoco_folder,transformer_folder';
  const cell = 'yoco-3b,gated-retention,transformer-3b,,1024,prefill_seconds,0.5';
  assert.equal(ratios(), [header, `${cell},20,40,transformer,a,b`]);
  table('c', [`${cells[1] ?? ''},1024,15`]);
  const whole = await page();
  assert.ok(whole.includes('>30.0×<'));
  assert.not.ok(whole.includes(', from sampled chunks'));
  assert.equal(ratios(), [header, `${cell},15,30,,a,c`]);
  table('c', []);
  rmSync(at('b'), { recursive: true });
  assert.not.match(await page(), /ratios\.csv/);
  assert.not.ok(existsSync(at('ratios.timings.csv')), 'ratios of what is gone');
});

test('of several measurements of a cell the first counts, without early exit none does', async () => {
  const rows = (yoco: number, transformer: number): string[] => [
    'model,architecture,self_decoder,context,tokens_per_second',
    `small,yoco,gated-retention,64,${yoco}`,
    `small,transformer,,64,${transformer}`,
  ];
  for (const place of ['a', 'b']) mkdirSync(at(place));
  write('a/profile-throughput.timings.csv', rows(6, 3));
  write('b/profile-throughput.timings.csv', rows(9, 1));
  write('profile-prefill.timings.csv', [
    'model,architecture,self_decoder,early_exit,context,seconds_median',
    'small,yoco,gated-retention,false,64,1',
    'small,transformer,,false,64,2',
  ]);
  await runCli('report', at());
  const [, ...lines] = readFileSync(at('ratios.timings.csv'), 'utf8').trimEnd().split('\n');
  assert.equal(lines, ['small,gated-retention,small,,64,decode_tokens_per_second,6,3,2,,a,a']);
});

test('figures of other types of keys and values, or of products, are named and compared apart', async () => {
  const measured = (place: string, rows: readonly string[], types: object): void => {
    mkdirSync(at(place));
    write(`${place}/profile-prefill.timings.csv`, [
      'model,architecture,self_decoder,early_exit,context,seconds_median',
      ...rows,
    ]);
    const engine = { description: 'a card', ...types };
    write(`${place}/profile-prefill.run.json`, [JSON.stringify({ engine })]);
  };
  const [yoco, transformer] = ['small,yoco,gated-retention,true,64,', 'small,transformer,,true,64,'];
  measured('a', [`${yoco}1`, `${transformer}5`], { compute: 'float8' });
  measured('b', [`${yoco}2`, `${transformer}6`], {});
  measured('c', [`${yoco}4`], { compute: 'float8', cacheType: 'int4' });
  await runCli('report', at());
  const [, ...lines] = readFileSync(at('ratios.timings.csv'), 'utf8').trimEnd().split('\n');
  assert.equal(lines, [
    'small,gated-retention,small,,64,prefill_seconds,2,6,3,,b,b',
    'small,gated-retention,small,products in float8,64,prefill_seconds,1,5,5,,a,a',
  ]);
  const page = readFileSync(at('report.html'), 'utf8');
  for (const name of ['>yoco<', '>yoco, products in float8<', '>yoco, K/V in int4, products in float8<'])
    assert.ok(page.includes(name), name);
});

test('memory of two presets is one chart, decoding has its share of a copy and a prefill of a product', async () => {
  write('profile-memory.csv', [
    'model,architecture,self_decoder,context,kv_cache_bytes,total_bytes,measured_peak_bytes,status,error',
    'yoco-3b,yoco,gated-retention,1024,100,1000,900,ok,',
    'transformer-3b,transformer,,1024,8000,9400,9000,ok,',
  ]);
  write('profile-memory.timings.csv', [
    'model,architecture,self_decoder,context,prefilled_tokens,reserved_peak_bytes,device_used_bytes',
    'yoco-3b,yoco,gated-retention,1024,1024,3072,4096',
    'transformer-3b,transformer,,1024,1024,,',
  ]);
  write('profile-throughput.timings.csv', [
    'model,architecture,self_decoder,context,tokens_per_second,bytes_per_second,copy_bytes_per_second,copy_share',
    'yoco-3b,yoco,gated-retention,1024,250,2000,4000,0.5',
  ]);
  write('profile-prefill.timings.csv', [
    'model,architecture,self_decoder,early_exit,context,seconds_median,flops_per_second,product_flops_per_second,product_share',
    'yoco-3b,yoco,gated-retention,true,1024,0.5,600e12,700e12,0.857',
  ]);
  await runCli('report', at());
  const html = readFileSync(at('report.html'), 'utf8');
  assert.ok(html.includes('50.0 %'));
  for (const text of ['85.7 %', 'what a large matrix product reaches directly after each run'])
    assert.ok(html.includes(text), text);
  assert.ok(html.includes('10.0×'), 'measured peaks');
  const numbers = ['1k', '1,000 B', '900 B', '3 KiB', '4 KiB'].map(
    (text) => `<td class="number">${text}</td>`,
  );
  assert.ok(html.includes(`<td>yoco-3b</td>${numbers.join('')}`), 'memory of the device');
  assert.ok(existsSync(at('figures/memory-yoco-3b-transformer-3b.svg')));
});

test('the throughput of others stands beside prefill and generation together, not beside decoding alone', async () => {
  write('profile-throughput.timings.csv', [
    'model,architecture,self_decoder,context,tokens_per_second',
    'yoco-3b,yoco,gated-retention,1024,250',
  ]);
  for (const [folder, batch, sequences, rate] of [
    ['a', '1', 1, 80.5],
    ['b', 'auto', 29, 90.5],
  ] as const) {
    mkdirSync(at(folder));
    const key = `yoco-3b,yoco,gated-retention,1024,${batch}`;
    write(`${folder}/profile-throughput-end-to-end.csv`, [
      'model,architecture,self_decoder,context,batch,prompt_tokens,generated_tokens,status,error',
      `${key},1000,24,ok,`,
    ]);
    write(`${folder}/profile-throughput-end-to-end.timings.csv`, [
      'model,architecture,self_decoder,context,batch,sequences,estimated,prefill_seconds,decode_seconds,tokens_per_second',
      `${key},${sequences},true,1.5,2.5,${rate}`,
    ]);
  }
  const file = `${at()}-reference.csv`;
  writeLines(file, ['figure,series,context,value,source', 'throughput,paper model,1024,43.1,the paper']);
  await runCli('report', at(), '--reference', file);
  rmSync(file);
  const figures = ['throughput', 'throughput-end-to-end'].map((name) =>
    readFileSync(at(`figures/${name}.svg`), 'utf8'),
  );
  assert.equal(
    figures.map((svg) => svg.includes('paper model')),
    [false, true],
  );
  const html = readFileSync(at('report.html'), 'utf8');
  const cells = ['1k', '29', '1.5 s', '2.5 s', '90.5'].map((text) => `<td class="number">${text}</td>`);
  assert.ok(html.includes(`<td>yoco, largest batch</td>${cells.join('')}`), 'measurements of the batch');
  assert.ok(html.includes('<td>yoco, batch 1</td>'));
});

test('what several folders measured has a curve for each folder', async () => {
  for (const [folder, rate, peak] of [
    ['int4', 300, 800],
    ['int8', 200, 900],
  ] as const) {
    mkdirSync(at(folder));
    write(`${folder}/profile-throughput.timings.csv`, [
      'model,architecture,self_decoder,context,tokens_per_second',
      `tiny,yoco,gated-retention,1024,${rate}`,
    ]);
    write(`${folder}/profile-memory.csv`, [
      'model,architecture,self_decoder,context,chunk_tokens,kv_cache_bytes,total_bytes,measured_peak_bytes,status,error',
      `tiny,yoco,gated-retention,1024,512,100,1000,${peak},ok,`,
    ]);
  }
  await runCli('report', at());
  const html = readFileSync(at('report.html'), 'utf8');
  const [decoding, memory] = ['throughput', 'memory-tiny'].map((name) =>
    readFileSync(at(`figures/${name}.svg`), 'utf8'),
  );
  for (const [name, rate, peak] of [
    ['yoco, int4', '300', '800 B'],
    ['yoco, int8', '200', '900 B'],
  ] as const) {
    assert.ok(decoding?.includes(`>${name}</text>`), name);
    assert.ok(memory?.includes(`>${name} measured</text>`), name);
    const cells = (...texts: string[]): string =>
      texts.map((text) => `<td class="number">${text}</td>`).join('');
    assert.ok(html.includes(`<td>${name}</td>${cells('1k', rate)}`), rate);
    assert.ok(html.includes(`<td>${name}</td>${cells('1k', '1,000 B', peak)}`), peak);
  }
});

test('memory in chunks of two sizes is two charts, and a column tells them apart', async () => {
  for (const [folder, chunk, peak] of [
    ['a', 512, 900],
    ['b', 1024, 950],
  ] as const) {
    mkdirSync(at(folder), { recursive: true });
    write(`${folder}/profile-memory.csv`, [
      'model,architecture,self_decoder,context,chunk_tokens,kv_cache_bytes,total_bytes,measured_peak_bytes,status,error',
      `tiny,yoco,gated-retention,1024,${chunk},100,1000,${peak},ok,`,
    ]);
  }
  await runCli('report', at());
  const html = readFileSync(at('report.html'), 'utf8');
  for (const [chunk, peak] of [
    ['512', '900 B'],
    ['1k', '950 B'],
  ] as const) {
    assert.ok(existsSync(at(`figures/memory-tiny-chunk-${chunk}.svg`)), chunk);
    const numbers = ['1k', chunk, '1,000 B', peak].map((text) => `<td class="number">${text}</td>`);
    assert.ok(html.includes(numbers.join('')), peak);
  }
});

test('training rates and ways to decode have their parts, one for each folder', async () => {
  write('training-rate.csv', ['model,architecture,tokens_per_step,status,error', '160m,yoco,32768,ok,']);
  write('training-rate.timings.csv', [
    'model,architecture,seconds,tokens_per_second,flops_per_second,product_flops_per_second,share,peak_bytes',
    '160m,yoco,0.1,327000,350e12,786e12,0.445,1073741824',
  ]);
  const modes = (
    place: string,
    rows: readonly (readonly [mode: string, rate: number, same: boolean])[],
  ): void => {
    mkdirSync(at(place));
    const key = (mode: string): string => `yoco-3b,32768,${mode}`;
    write(`${place}/decoding-modes.csv`, [
      'model,context,mode,same_tokens,status,error',
      ...rows.map(
        ([mode, , same]) => `${key(mode)},${same},${same ? 'ok,' : 'error,"tokens 1,2 instead of 1,3"'}`,
      ),
    ]);
    write(`${place}/decoding-modes.timings.csv`, [
      'model,context,mode,seconds,tokens_per_second,bytes_per_second,share',
      ...rows.map(([mode, rate]) => `${key(mode)},${1 / rate},${rate},1000,0.625`),
    ]);
  };
  modes('a', [
    ['computed', 100, true],
    ['recorded', 250, true],
    ['chained', 400, true],
  ]);
  await runCli('report', at());
  const page = (): string => readFileSync(at('report.html'), 'utf8');
  for (const text of [
    '327,000',
    '44.5 %',
    '350',
    '32,768',
    '1 GiB',
    '<td>yoco 160m</td>',
    '2.5 ms',
    '62.5 %',
  ])
    assert.ok(page().includes(text), text);
  assert.ok(page().includes('yoco-3b chained</text>'));
  assert.not.ok(page().includes('yoco-3b recorded</text>'), 'in the table only');
  assert.not.match(page(), /<h3>/);
  assert.ok(existsSync(at('figures/decoding-modes.svg')));
  modes('b', [['other', 77.7, false]]);
  modes('c', [['computed', 88.8, true]]);
  await runCli('report', at());
  assert.match(page(), /<h3>a<\/h3>[^]*<h3>c<\/h3>/);
  assert.not.ok(page().includes('77.7'), 'what failed is no measurement');
  assert.ok(existsSync(at('figures/c-decoding-modes.svg')));
});

test.run();
