/** Profiles of models whose sequences are divided over ranks: one figure for all of them, and a row for each device. */
import type { Communicator } from '../distributed/communicator.js';
import type { Engine } from '../engines/engine.js';
import type { DerivedTable } from '../results/derived.js';
import type { Column, Row } from '../results/schema.js';
import { camelCase, rowOf, type TableSchema } from '../results/typed.js';

/** The engines of all ranks as one: idle when all are idle, and with room where all have it, so that all decide alike. */
export function engineOfRanks(engine: Engine, communicator: Communicator): Engine {
  if (communicator.size === 1) return engine;
  return {
    ...engine,
    synchronize: async () => {
      await engine.synchronize();
      communicator.barrier();
    },
    availableBytes: () => Math.min(...(communicator.gather(engine.availableBytes()) as number[])),
  };
}

const RANK_COLUMNS: readonly Column[] = [
  { name: 'rank', kind: 'key', description: 'from 0' },
  { name: 'device', kind: 'timing', description: 'what the rank computes on' },
];

/** What each rank found, cell by cell. */
export class RankTable<Key extends object, Figures extends object> {
  private readonly rows: Row[] = [];

  /**
   * @param schema of the table of all ranks
   * @param ofDevice its figures that are of one device: all ranks together have the largest
   */
  constructor(
    private readonly schema: TableSchema<Key, Figures>,
    private readonly ofDevice: readonly (keyof Figures & string)[],
    private readonly device: string,
    private readonly communicator: Communicator,
  ) {}

  /** Takes down what this rank and the others found, which all call it; the figures of all together. */
  together(key: Key, figures: Figures): Figures {
    if (this.communicator.size === 1) return figures;
    const found = this.communicator.gather({ figures, device: this.device }) as Found<Figures>[];
    found.forEach((own, rank) => {
      const row = rowOf(this.schema, { ...key, ...own.figures });
      this.rows.push({ ...row, rank, device: own.device });
    });
    const largest = this.ofDevice.map((name) => [name, largestOf(found.map((own) => own.figures[name]))]);
    return { ...figures, ...(Object.fromEntries(largest) as Partial<Figures>) };
  }

  /** `NAME-ranks`; nothing of one process. */
  get tables(): DerivedTable[] {
    if (this.communicator.size === 1) return [];
    const { columns, name } = this.schema;
    const names: readonly string[] = this.ofDevice;
    const keys = columns.filter(({ kind }) => kind === 'key');
    const figures = columns.filter((column) => names.includes(camelCase(column.name)));
    return [
      { schema: { name: `${name}-ranks`, columns: [...keys, ...RANK_COLUMNS, ...figures] }, rows: this.rows },
    ];
  }
}

interface Found<Figures> {
  readonly figures: Figures;
  readonly device: string;
}

/** Null where no rank has a number. */
function largestOf(values: readonly unknown[]): number | null {
  const numbers = values.filter((value) => typeof value === 'number');
  return numbers.length === 0 ? null : Math.max(...numbers);
}
