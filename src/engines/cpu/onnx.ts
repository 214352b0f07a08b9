/**
 * Writes ONNX models in memory: the few protobuf messages a graph of operators with symbolic dimensions needs.
 * Field numbers are those of `onnx.proto` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
 */

/** Element types by their number in `TensorProto.DataType`. */
export const ELEMENT_TYPES = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
} as const;
export type ElementType = keyof typeof ELEMENT_TYPES;

/** An integer, a list of integers, a float wrapped so that 1 and 1.0 can be told apart, or the body of a loop. */
export type Attribute = number | readonly number[] | { readonly float: number } | { readonly graph: Graph };

export interface Node {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** `com.microsoft` for ONNX Runtime's own operators. */
  readonly domain?: 'com.microsoft';
}

export interface Value {
  readonly name: string;
  readonly rank: number;
  readonly type?: ElementType;
}

/** A constant of the graph; a list without `dims` is a vector. */
export interface Constant {
  readonly name: string;
  readonly type: 'float32' | 'int64';
  readonly values: readonly number[];
  readonly dims?: readonly number[];
}

export interface Graph {
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly nodes: readonly Node[];
  readonly constants?: readonly Constant[];
}

/** `a → b` by operator `op`; a shorthand that keeps graph definitions readable. */
export function node(
  op: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes?: Readonly<Record<string, Attribute>>,
): Node {
  return { op, inputs, outputs, attributes };
}

/** The same for an operator of ONNX Runtime's `com.microsoft` domain. */
export function microsoftNode(
  op: string,
  inputs: readonly string[],
  outputs: readonly string[],
  attributes?: Readonly<Record<string, Attribute>>,
): Node {
  return { op, inputs, outputs, attributes, domain: 'com.microsoft' };
}

export function float(value: number): { readonly float: number } {
  return { float: value };
}

/** A protobuf message under construction. */
class Message {
  readonly bytes: number[] = [];

  private varint(value: number): this {
    let rest = BigInt.asUintN(64, BigInt(value));
    while (rest > 127n) {
      this.bytes.push(Number(rest & 127n) | 128);
      rest >>= 7n;
    }
    this.bytes.push(Number(rest));
    return this;
  }

  integer(field: number, value: number): this {
    return this.varint(field << 3).varint(value);
  }

  delimited(field: number, payload: ArrayLike<number>): this {
    this.varint((field << 3) | 2).varint(payload.length);
    for (let i = 0; i < payload.length; i++) this.bytes.push(payload[i] ?? 0);
    return this;
  }

  text(field: number, value: string): this {
    return this.delimited(field, Buffer.from(value, 'utf8'));
  }

  message(field: number, value: Message): this {
    return this.delimited(field, value.bytes);
  }

  float(field: number, value: number): this {
    this.varint((field << 3) | 5);
    this.bytes.push(...new Uint8Array(Float32Array.of(value).buffer));
    return this;
  }
}

function encodeValue({ name, rank, type = 'float32' }: Value): Message {
  const shape = new Message();
  for (let axis = 0; axis < rank; axis++) shape.message(1, new Message().text(2, `${name}_${axis}`));
  const tensorType = new Message().integer(1, ELEMENT_TYPES[type]).message(2, shape);
  return new Message().text(1, name).message(2, new Message().message(1, tensorType));
}

function encodeAttribute(name: string, value: Attribute): Message {
  const message = new Message().text(1, name);
  if (typeof value === 'number') return message.integer(3, value).integer(20, 2);
  if ('float' in value) return message.float(2, value.float).integer(20, 1);
  if ('graph' in value) return message.message(6, encodeGraph(value.graph)).integer(20, 5);
  for (const element of value) message.integer(8, element);
  return message.integer(20, 7);
}

function encodeNode({ op, inputs, outputs, attributes = {}, domain }: Node): Message {
  const message = new Message();
  for (const input of inputs) message.text(1, input);
  for (const output of outputs) message.text(2, output);
  message.text(4, op);
  for (const [name, value] of Object.entries(attributes)) message.message(5, encodeAttribute(name, value));
  return domain ? message.text(7, domain) : message;
}

function encodeConstant({ name, type, values, dims = [values.length] }: Constant): Message {
  const message = new Message();
  for (const size of dims) message.integer(1, size);
  message.integer(2, ELEMENT_TYPES[type]).text(8, name);
  const array = type === 'float32' ? Float32Array.from(values) : BigInt64Array.from(values, BigInt);
  return message.delimited(9, new Uint8Array(array.buffer));
}

function encodeGraph(graph: Graph): Message {
  const body = new Message();
  for (const item of graph.nodes) body.message(1, encodeNode(item));
  body.text(2, 'graph');
  for (const item of graph.constants ?? []) body.message(5, encodeConstant(item));
  for (const item of graph.inputs) body.message(11, encodeValue(item));
  for (const item of graph.outputs) body.message(12, encodeValue(item));
  return body;
}

/** The serialised `ModelProto`: IR version 9, operator set 18 plus ONNX Runtime's own. */
export function encodeModel(graph: Graph): Uint8Array<ArrayBuffer> {
  const model = new Message().integer(1, 9).message(7, encodeGraph(graph));
  model.message(8, new Message().text(1, '').integer(2, 18));
  model.message(8, new Message().text(1, 'com.microsoft').integer(2, 1));
  return Uint8Array.from(model.bytes);
}
