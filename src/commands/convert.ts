import { Args, Flags } from '@oclif/core';
import { outputFlags, STORAGE_NAMES, tokenCountFlag } from '../cli/flags.js';
import { type Given, PlainCommand } from '../cli/plain-command.js';
import type { Progress } from '../cli/progress.js';
import { parseByteCount } from '../cli/sizes.js';
import type { Schema } from '../library/basics.js';

/** The layouts of `checkpoint/open.ts`, repeated here so that `--help` loads nothing. */
const FORMATS = ['yoco', 'official', 'huggingface', 'fla', 'meta', 'gguf'] as const;

/** `q8_0` is blocks of 32 bytes with a scale. */
const STORED_AS = [...STORAGE_NAMES, 'q8_0'] as const;
const DATA_TYPES = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const;

const SCHEMA: Schema = {
  name: 'convert',
  columns: [
    { name: 'source', kind: 'key', description: 'directory or file read' },
    { name: 'destination', kind: 'key', description: 'directory written' },
    { name: 'from', kind: 'result', description: 'layout of the source' },
    { name: 'to', kind: 'result', description: 'layout of the destination' },
    { name: 'architecture', kind: 'result', description: 'yoco or transformer' },
    { name: 'tokenizer', kind: 'result', description: 'what the checkpoint calls its tokenizer' },
    { name: 'tensors', kind: 'result', description: 'tensors copied', display: 'count' },
    { name: 'parameters', kind: 'result', description: 'elements of all tensors', display: 'count' },
    {
      name: 'source_bytes',
      kind: 'result',
      description: 'bytes of the tensors as they are read from the source',
      display: 'bytes',
    },
    {
      name: 'written_bytes',
      kind: 'result',
      description: 'bytes of the files in the destination',
      display: 'bytes',
    },
  ],
};

export default class Convert extends PlainCommand {
  static override summary = 'Rewrite a checkpoint in another layout.';
  static override description =
    'The layout of SOURCE is found out. Layouts: yoco (config.json and safetensors of this toolkit), official (params.json and ' +
    'checkpoint.pth of the official YOCO code), huggingface (a directory of Llama, Mistral, Qwen 2 or Qwen 3), fla (a YOCO of flash-linear-attention), meta (params.json and ' +
    "consolidated.00.pth, Llama's original layout, whose rotary pairs are interleaved), gguf (a file of llama.cpp: Llama, " +
    'Qwen 2 or Qwen 3; written as model.gguf). Tensors are copied one at a time and bit for bit, unless --dtype asks for another ' +
    'type; blocks of few bits in a GGUF file become float32. SOURCE may be a training run: its newest checkpoint is taken.';
  static override examples = [
    '<%= config.bin %> <%= command.id %> runs/tiny-yoco released --to official',
    '<%= config.bin %> <%= command.id %> TinyStories-656K baseline --to yoco',
    '<%= config.bin %> <%= command.id %> hf:owner/name baseline --to yoco',
    '<%= config.bin %> <%= command.id %> baseline for-transformers --to huggingface --dtype bfloat16',
    '<%= config.bin %> <%= command.id %> runs/tiny-yoco for-fla --to fla',
    '<%= config.bin %> <%= command.id %> baseline for-llama.cpp --to gguf --dtype q8_0',
    '<%= config.bin %> <%= command.id %> Llama-3.2-1B-Q4_K_M.gguf baseline --to yoco',
  ];
  static override args = {
    source: Args.string({
      description: 'checkpoint directory, a GGUF file, a training run, or hf:owner/name',
      required: true,
    }),
    destination: Args.string({ description: 'directory to write', required: true }),
  };
  static override flags = {
    to: Flags.option({ options: FORMATS, description: 'layout to write', required: true })(),
    dtype: Flags.option({
      options: STORED_AS,
      description: 'type to store (default: as in SOURCE); q8_0 only in GGUF',
    })(),
    'max-shard': Flags.custom<number>({
      description: 'largest safetensors file; more is divided into shards with an index',
      helpValue: '5GB',
      parse: (text) => Promise.resolve(parseByteCount(text)),
    })(),
    context: tokenCountFlag({
      description: 'tokens the model was trained on at once, where SOURCE does not say',
      helpValue: '4k',
    }),
    overwrite: Flags.boolean({ description: 'replace what DESTINATION holds' }),
    format: outputFlags.format,
  };

  protected override destinations({ args: { destination = '' } }: Given) {
    return [{ directory: destination }];
  }

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Convert);
    const { source, destination } = args;
    const { convertCheckpoint } = await import('../library/models.js');
    const { localCheckpoint } = await import('../library/hub.js');
    const { printRows } = await import('../library/results.js');
    let progress: Progress | undefined;
    const done = await convertCheckpoint(await localCheckpoint(source), destination, {
      to: flags.to,
      ...(flags.dtype === 'q8_0'
        ? { quantization: 'Q8_0' }
        : { dtype: flags.dtype && DATA_TYPES[flags.dtype] }),
      maxShardBytes: flags['max-shard'],
      overwrite: flags.overwrite,
      context: flags.context,
      onProgress: (bytes, total) => {
        progress ??= this.progress({ label: 'convert', total: Math.ceil(total / 1e6), unit: 'MB' });
        progress.update(Math.ceil(bytes / 1e6));
      },
    }).finally(() => progress?.stop());
    const { note, detail } = this.reports();
    done.remarks.forEach(note);
    if (this.isVerbose && done.tokenizer !== null) {
      const { describeOrigins, loadTokenizer } = await import('../library/text.js');
      describeOrigins(await loadTokenizer(done.tokenizer)).forEach(detail);
    }
    const row = {
      source,
      destination,
      from: done.from,
      to: done.to,
      architecture: done.config.architecture,
      tokenizer: done.tokenizer,
      tensors: done.tensors,
      parameters: done.parameters,
      source_bytes: done.sourceBytes,
      written_bytes: done.writtenBytes,
      status: 'ok',
    };
    process.stdout.write(printRows(SCHEMA, [row], flags.format, this.tableOptions()));
  }
}
