/**
 * Event files of TensorBoard: records of `Event` messages, each with its length and masked CRC-32C checksums around it (TFRecord:
 * https://www.tensorflow.org/tutorials/load_data/tfrecord; the messages: tensorflow/core/util/event.proto, framework/summary.proto).
 */
import { closeSync, openSync } from 'node:fs';
import { createRequire } from 'node:module';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { makeDirectory, writeWhole, writing } from '../files/write.js';

/** Numbers of the fields that are written. */
const EVENT = { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 } as const;
const SUMMARY = { value: 1 } as const;
const VALUE = { tag: 1, simpleValue: 2 } as const;
const SESSION_LOG = { status: 1 } as const;
const SESSION_START = 1;

interface Crc32c {
  /** A signed 32-bit checksum. */
  buf(bytes: Uint8Array): number;
}

/** The package is CommonJS, and its types leave this module out. */
const crc32c = createRequire(import.meta.url)('crc-32/crc32c') as Crc32c;

/** TFRecord rotates a checksum and adds a constant, so that one of data which holds checksums is no weaker. */
function maskedChecksum(bytes: Uint8Array): number {
  const crc = crc32c.buf(bytes) >>> 0;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

function tfRecord(data: Uint8Array): Uint8Array {
  const record = new Uint8Array(16 + data.length);
  const view = new DataView(record.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, maskedChecksum(record.subarray(0, 8)), true);
  record.set(data, 12);
  view.setUint32(12 + data.length, maskedChecksum(data), true);
  return record;
}

function event(seconds: number, step: number, write: (writer: BinaryWriter) => void): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(EVENT.wallTime, WireType.Bit64).double(seconds);
  // As protobuf does, a zero is left out.
  if (step !== 0) writer.tag(EVENT.step, WireType.Varint).int64(step);
  write(writer);
  return tfRecord(writer.finish());
}

function writeScalars(writer: BinaryWriter, scalars: ReadonlyMap<string, number>): void {
  writer.tag(EVENT.summary, WireType.LengthDelimited).fork();
  for (const [tag, value] of scalars) {
    writer.tag(SUMMARY.value, WireType.LengthDelimited).fork();
    writer.tag(VALUE.tag, WireType.LengthDelimited).string(tag);
    writer.tag(VALUE.simpleValue, WireType.Bit32).float(value);
    writer.join();
  }
  writer.join();
}

/** A new event file in a directory; each event is on disk when `append` returns. */
export class EventFile {
  private descriptor: number | null = null;

  /** @param now seconds since 1970, for tests */
  constructor(
    private readonly directory: string,
    private readonly now = (): number => Date.now() / 1000,
  ) {}

  /**
   * Scalars of a step. The first step of a process marks a start, at which TensorBoard drops what earlier files of the directory
   * have of it and later steps: a run that resumes computes them again.
   * @throws RunError where the file cannot be written
   */
  append(step: number, scalars: ReadonlyMap<string, number>): void {
    writing(this.directory, () => {
      this.descriptor ??= this.open(step);
      writeWhole(
        this.descriptor,
        event(this.now(), step, (writer) => {
          writeScalars(writer, scalars);
        }),
      );
    });
  }

  private open(step: number): number {
    makeDirectory(this.directory);
    const name = `events.out.tfevents.${Math.floor(this.now())}.${hostname()}.${process.pid}`;
    const descriptor = openSync(join(this.directory, name), 'a');
    const version = event(this.now(), 0, (writer) => {
      writer.tag(EVENT.fileVersion, WireType.LengthDelimited).string('brain.Event:2');
    });
    const start = event(this.now(), step, (writer) => {
      writer.tag(EVENT.sessionLog, WireType.LengthDelimited).fork();
      writer.tag(SESSION_LOG.status, WireType.Varint).int32(SESSION_START);
      writer.join();
    });
    writeWhole(descriptor, version);
    writeWhole(descriptor, start);
    return descriptor;
  }

  close(): void {
    if (this.descriptor !== null) closeSync(this.descriptor);
    this.descriptor = null;
  }
}
