/**
 * The process that holds Hugging Face's tokenizers library. The library may abort its process (an expression that
 * backtracks too long) or take unbounded time, so it does not run in ours.
 */
import { Tokenizer, type Encoding } from 'tokenizers';
import type { LibraryReply, LibraryRequest, Spans } from './protocol.js';

const tokenizers = new Map<number, Tokenizer>();

function load(json: string, added: readonly { content: string; id: number }[]): Tokenizer {
  const tokenizer = Tokenizer.fromString(json);
  for (const { content, id } of added) {
    const given = tokenizer.tokenToId(content);
    if (given === id) continue;
    throw new Error(
      `the added token ${JSON.stringify(content)} has id ${id} in the file but ${String(given)} in the vocabulary`,
    );
  }
  return tokenizer;
}

function required(number: number): Tokenizer {
  const tokenizer = tokenizers.get(number);
  if (tokenizer === undefined) throw new Error(`tokenizer ${number} was not loaded`);
  return tokenizer;
}

/** The spans of tokens `from` to `to` - 1. */
function spansOf(encoding: Encoding, from: number, to: number): Spans {
  const count = Math.max(0, to - from);
  const spans = {
    starts: new Int32Array(count),
    ends: new Int32Array(count),
    words: new Int32Array(count),
  };
  for (let index = 0; index < count; index++) {
    const [start, end] = encoding.tokenToChars(from + index) ?? [0, 0];
    spans.starts[index] = start;
    spans.ends[index] = end;
    spans.words[index] = encoding.tokenToWord(from + index) ?? -1;
  }
  return spans;
}

function spanned(encoding: Encoding, head: number, tail: number): LibraryReply {
  const length = encoding.getLength();
  const start = (token: number): number => encoding.tokenToChars(token)?.[0] ?? 0;
  let headEnd = 0;
  while (headEnd < length && start(headEnd) < head) headEnd += 1;
  let tailStart = length;
  while (tailStart > 0 && start(tailStart - 1) >= tail) tailStart -= 1;
  return {
    kind: 'spanned',
    ids: Int32Array.from(encoding.getIds()),
    head: spansOf(encoding, 0, headEnd),
    tail: spansOf(encoding, tailStart, length),
  };
}

const PLAIN = { addSpecialTokens: false };

async function answer(request: LibraryRequest): Promise<LibraryReply> {
  switch (request.kind) {
    case 'load':
      tokenizers.set(request.tokenizer, load(request.json, request.added));
      return { kind: 'loaded' };
    case 'encode': {
      const encodings = await required(request.tokenizer).encodeBatch([...request.texts], PLAIN);
      return { kind: 'encoded', ids: encodings.map((encoding) => Int32Array.from(encoding.getIds())) };
    }
    case 'spans': {
      const encoding = await required(request.tokenizer).encode(request.text, null, PLAIN);
      return spanned(encoding, request.head, request.tail);
    }
    case 'decode':
      return {
        kind: 'decoded',
        text: await required(request.tokenizer).decode([...request.ids], true),
      };
  }
}

function reply(message: LibraryReply): void {
  process.send?.(message);
}

// Requests may be waiting: they are answered one after the other, in their order.
let last: Promise<void> = Promise.resolve();
process.on('message', (request: LibraryRequest) => {
  last = last
    .then(() => answer(request))
    .then(reply, (error: unknown) => {
      reply({ kind: 'refused', reason: error instanceof Error ? error.message : String(error) });
    });
});
// The library may be at work on another thread, for which an ordinary exit would wait.
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
// Ctrl-C reaches the whole group; the parent decides when this process ends.
process.on('SIGINT', () => undefined);
