/** Writes graphs of several operators the way one writes expressions. */
import type { Attribute, Constant, ElementType, Graph, Node, Value } from './onnx.js';

type Attributes = Readonly<Record<string, Attribute>>;

/** What the body of a loop makes: the states for the next turn, and the values that are collected. */
interface Turn {
  readonly states: readonly string[];
  readonly outputs: readonly string[];
}

export class GraphBuilder {
  private readonly inputs: Value[] = [];
  private readonly outputs: Value[] = [];
  private readonly nodes: Node[] = [];
  private readonly constants: Constant[] = [];
  /** Values that are outputs of the graph, by the name they had before. */
  private readonly renamed = new Map<string, string>();

  /** @param prefix begins every name that the builder makes: those of a body must differ from those around it */
  constructor(private readonly prefix = '') {}

  input(name: string, rank: number, type: ElementType = 'float32'): string {
    this.inputs.push({ name, rank, type });
    return name;
  }

  /** A scalar that broadcasts. */
  scalar(value: number): string {
    return this.constant('float32', [value], [1]);
  }

  /** A square matrix of ones where `where(i, j)` holds and zeros elsewhere. */
  mask(size: number, where: (i: number, j: number) => boolean): string {
    const values = Array.from({ length: size * size }, (_, at) =>
      where(Math.floor(at / size), at % size) ? 1 : 0,
    );
    return this.constant('float32', values, [size, size]);
  }

  /** A vector of integers, as axes and shapes are given. */
  integers(...values: number[]): string {
    return this.constant('int64', values, [values.length]);
  }

  /** The (first) result of an ONNX operator. An absent optional input is an empty string. */
  op(operator: string, inputs: readonly string[], attributes?: Attributes): string {
    return this.append({ op: operator, inputs, outputs: [this.fresh()], attributes });
  }

  /** The halves of x along an axis. */
  split(x: string, axis: number): [first: string, second: string] {
    const outputs = [`${this.fresh()}_0`, `${this.fresh()}_1`] as const;
    this.append({ op: 'Split', inputs: [x], outputs, attributes: { axis, num_outputs: 2 } });
    return [...outputs];
  }

  /** The (first) result of one of ONNX Runtime's own operators. */
  own(operator: string, inputs: readonly string[], attributes?: Attributes): string {
    return this.append({
      op: operator,
      inputs,
      outputs: [this.fresh()],
      attributes,
      domain: 'com.microsoft',
    });
  }

  /** The same for an operator with several results. */
  ownAll(operator: string, count: number, inputs: readonly string[], attributes?: Attributes): string[] {
    const outputs = Array.from({ length: count }, (_, i) => `${this.fresh()}_${i}`);
    this.append({ op: operator, inputs, outputs, attributes, domain: 'com.microsoft' });
    return outputs;
  }

  /**
   * A loop over the first axis of all `inputs` (ONNX `Scan`), from the last to the first where `reverse`. `states` go from turn to
   * turn; their last values and what each turn puts out, along a first axis, are returned.
   * @param rank of the states and of the parts of inputs that a turn gets
   */
  scan(
    rank: number,
    states: readonly string[],
    inputs: readonly string[],
    turn: (body: GraphBuilder, states: string[], parts: string[]) => Turn,
    { reverse = false } = {},
  ): Turn {
    const name = `${this.fresh()}_`;
    const body = new GraphBuilder(name);
    const enter = (kind: string, count: number): string[] =>
      Array.from({ length: count }, (_, i) => body.input(`${name}${kind}${i}`, rank));
    const made = turn(body, enter('state', states.length), enter('part', inputs.length));
    [...made.states, ...made.outputs].forEach((value, i) => {
      body.output(`${name}result${i}`, rank, value);
    });
    const outputs = [...made.states, ...made.outputs].map((_, i) => `${name}${i}`);
    const direction = reverse ? 1 : 0;
    this.append({
      op: 'Scan',
      inputs: [...states, ...inputs],
      outputs,
      attributes: {
        body: { graph: body.build() },
        num_scan_inputs: inputs.length,
        scan_input_directions: inputs.map(() => direction),
        scan_output_directions: made.outputs.map(() => direction),
      },
    });
    return { states: outputs.slice(0, states.length), outputs: outputs.slice(states.length) };
  }

  /**
   * 1 / (1 + exp(-x)). ONNX Runtime's own Sigmoid is a rational approximation with an absolute error of 1e-7: where the sigmoid
   * is smaller than that (x below -16), nothing is right in it.
   */
  sigmoid(x: string): string {
    return this.op('Reciprocal', [this.op('Add', [this.op('Exp', [this.op('Neg', [x])]), this.scalar(1)])]);
  }

  /** op(a) op(b) · alpha, the leading dimensions broadcast. */
  product(a: string, b: string, { transA = 0, transB = 0, alpha = 1 } = {}): string {
    return this.own('FusedMatMul', [a, b], { transA, transB, alpha: { float: alpha } });
  }

  /** Makes a value an output of the graph, under a name of its own. */
  output(name: string, rank: number, value: string, type: ElementType = 'float32'): void {
    this.outputs.push({ name, rank, type });
    this.renamed.set(value, name);
  }

  build(): Graph {
    const rename = (names: readonly string[]) => names.map((name) => this.renamed.get(name) ?? name);
    const nodes = this.nodes.map((item) => ({
      ...item,
      inputs: rename(item.inputs),
      outputs: rename(item.outputs),
    }));
    return { inputs: this.inputs, outputs: this.outputs, nodes, constants: this.constants };
  }

  private constant(type: 'float32' | 'int64', values: readonly number[], dims: readonly number[]): string {
    const name = `${this.prefix}constant${this.constants.length}`;
    this.constants.push({ name, type, values, dims });
    return name;
  }

  private fresh(): string {
    return `${this.prefix}value${this.nodes.length}`;
  }

  private append(item: Node): string {
    this.nodes.push(item);
    return item.outputs[0] ?? '';
  }
}

/** The graph that `write` writes. */
export function graph(write: (g: GraphBuilder) => void): Graph {
  const builder = new GraphBuilder();
  write(builder);
  return builder.build();
}
