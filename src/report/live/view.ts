/** What the live page shows, as the server sends it and the browser reads it. This file has types alone: both sides import it. */

/** What the curves are drawn over. */
export type Abscissa = 'tokens' | 'steps' | 'hours';

export interface Curve {
  /** The run's name. */
  readonly run: string;
  /** What tells it from other curves of the run in the same chart: `held-out`. Empty for the first. */
  readonly kind: string;
  /** In ascending x. */
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface LiveChart {
  /** Stays the same while the values change. */
  readonly id: string;
  readonly title: string;
  /** Unit of the values; empty where the title says it. */
  readonly unit: string;
  readonly curves: readonly Curve[];
}

export interface RunSummary {
  readonly name: string;
  /** As CSS writes it. */
  readonly color: string;
  /** `step`, `tokens` and so on: text by heading of a column, `–` where it is not known. */
  readonly cells: Readonly<Record<string, string>>;
  /** Milliseconds since 1970 when a table of it was written last. */
  readonly changedAt: number | null;
}

export interface Link {
  readonly text: string;
  readonly href: string;
}

export interface View {
  /** Changes with what is shown. */
  readonly version: string;
  /** Changes with the tables of the directories: then the links may be others. */
  readonly tables: string;
  readonly x: Abscissa;
  /** Those that the runs have values for. */
  readonly abscissas: readonly Abscissa[];
  readonly runs: readonly RunSummary[];
  readonly charts: readonly LiveChart[];
  /** What could not be read. */
  readonly problems: readonly string[];
}
