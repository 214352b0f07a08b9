import { readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { scratchDirectory } from '../checkpoint/scratch.js';
import { loadCorpus, type Corpus } from '../../src/data/corpus.js';
import { cachedTokens } from '../../src/data/token-cache.js';
import { tokenize, type TokenStore } from '../../src/data/token-store.js';
import { BytesTokenizer } from '../../src/data/tokenizers/bytes.js';

const test = suite('data: token cache');
const at = scratchDirectory(test);

/** Counts how often it encodes. */
class Counting extends BytesTokenizer {
  encoded = 0;
  override encodePieces(pieces: Iterable<string>): ReturnType<BytesTokenizer['encodePieces']> {
    this.encoded += 1;
    return super.encodePieces(pieces);
  }
}

function corpusOf(text: string): Promise<Corpus> {
  writeFileSync(at('text.txt'), text);
  return loadCorpus(at('text.txt'));
}

function ids(store: TokenStore): number[] {
  const target = new Int32Array(store.length);
  store.read(0, target);
  return [...target];
}

test('the second time tokens come from the cache, the same ones', async () => {
  const corpus = await corpusOf('one two three\n'.repeat(50));
  const tokenizer = new Counting();
  const options = { folder: at('cache'), leastBytes: 0 };
  const expected = ids(tokenize(corpus.pieces('train'), new BytesTokenizer()));
  for (let time = 0; time < 2; time++) {
    const { tokens, bytes } = cachedTokens(corpus, 'train', tokenizer, options);
    assert.equal(ids(tokens), expected);
    assert.is(bytes, expected.length - 1, 'without the end of the text');
    assert.is(tokenizer.encoded, 1);
  }
  assert.equal(
    readdirSync(options.folder).filter((name) => !name.endsWith('.bin')),
    [],
    'nothing half-written stays',
  );
});

test('another text, split or end of text are other tokens', async () => {
  const options = { folder: at('cache'), leastBytes: 0 };
  const tokenizer = new Counting();
  cachedTokens(await corpusOf('one two three\n'.repeat(50)), 'train', tokenizer, options);
  cachedTokens(await corpusOf('one two three\n'.repeat(51)), 'train', tokenizer, options);
  cachedTokens(await corpusOf('one two three\n'.repeat(51)), 'all', tokenizer, options);
  assert.is(tokenizer.encoded, 3);
});

test('a small corpus leaves no file; a damaged file and a folder that cannot be are no failure', async () => {
  const corpus = await corpusOf('one two three\n'.repeat(50));
  const tokenizer = new Counting();
  const folder = at('cache');
  cachedTokens(corpus, 'all', tokenizer, { folder });
  assert.not.ok(readdirSync(at()).includes('cache'));
  cachedTokens(corpus, 'all', tokenizer, { folder, leastBytes: 0 });
  const [file = ''] = readdirSync(folder);
  truncateSync(join(folder, file), 16 + 2 * 100);
  const expected = ids(tokenize(corpus.pieces('all'), tokenizer));
  assert.equal(ids(cachedTokens(corpus, 'all', tokenizer, { folder, leastBytes: 0 }).tokens), expected);
  const blocked = join(at(), 'text.txt', 'cache');
  assert.equal(
    ids(cachedTokens(corpus, 'all', tokenizer, { folder: blocked, leastBytes: 0 }).tokens),
    expected,
  );
});

test('more tokens than memory is to hold are read from the file', async () => {
  const corpus = await corpusOf('one two three\n'.repeat(50));
  const tokenizer = new Counting();
  const options = { folder: at('cache'), leastBytes: 0, tokensInMemory: 64 };
  const expected = ids(tokenize(corpus.pieces('all'), new BytesTokenizer()));
  for (let time = 0; time < 2; time++) {
    const { tokens } = cachedTokens(corpus, 'all', tokenizer, options);
    assert.is.not(tokens.constructor.name, 'MemoryStore');
    assert.equal(ids(tokens), expected);
    const part = new Int32Array(9);
    tokens.read(77, part);
    assert.equal([...part], expected.slice(77, 86));
    tokens.dispose();
  }
  assert.is(tokenizer.encoded, 1);
});

test.run();
