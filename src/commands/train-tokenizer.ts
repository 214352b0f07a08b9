import { Args, Flags } from '@oclif/core';
import { PlainCommand } from '../cli/plain-command.js';

export default class TrainTokenizer extends PlainCommand {
  static override summary = 'Train a byte-level BPE tokenizer and write it as tokenizer.json.';
  static override description =
    'Byte-pair encoding over UTF-8 bytes (GPT-2 style): every text can be encoded. The file is read by this toolkit ' +
    '(--tokenizer FILE) and by the Hugging Face libraries. The same text and size give the same file.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> tokenizer.json --size 4096',
    '<%= config.bin %> <%= command.id %> tokenizers/books --size 16384 --data "books/*.txt"',
    '<%= config.bin %> <%= command.id %> tokenizer.json --size 512 --data notes.jsonl --data moby-dick',
  ];
  static override args = {
    file: Args.string({
      description: 'file to write, or a directory for tokenizer.json',
      required: true,
      ignoreStdin: true,
    }),
  };
  static override flags = {
    size: Flags.integer({ description: 'tokens of the vocabulary, 512 to 32768', default: 4096 }),
    data: Flags.string({
      description:
        'sotu (default), moby-dick, hf:owner/name:split, or files, globs and directories of .txt and .jsonl (also .gz, .xz, .zst), .json and .parquet; may be repeated',
      multiple: true,
      multipleNonGreedy: true,
      default: ['sotu'],
    }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(TrainTokenizer);
    const { BpeTrainer, checkVocabularySize, loadCorpus, tokenizerFile, writeTokenizer, loadTokenizer } =
      await import('../library/text.js');
    checkVocabularySize(flags.size);
    this.requireDestinations([{ file: tokenizerFile(args.file) }]);
    const corpus = await loadCorpus(flags.data);
    const trainer = new BpeTrainer();
    for (const { text } of corpus.pieces('train')) trainer.add(text);
    const progress = this.progress({ label: 'merges', total: flags.size, unit: 'tokens' });
    const description = trainer.train(flags.size, (tokens) => {
      progress.update(tokens);
    });
    progress.stop();
    const path = writeTokenizer(args.file, description);
    const tokenizer = await loadTokenizer(path);
    const sample = corpus.text('held-out').slice(0, 1 << 18);
    const ratio = Buffer.byteLength(sample) / tokenizer.encode(sample).length;
    process.stdout.write(`${path}\n`);
    this.note(`${tokenizer.vocabSize} tokens; held-out text has ${ratio.toFixed(2)} bytes per token`);
  }
}
