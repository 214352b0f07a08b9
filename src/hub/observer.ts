/** Who is told of downloads: they happen wherever a reference is met, and only the command line shows them. */

export interface HubObserver {
  /** Bytes of the files that are fetched together, and the one at work. */
  readonly progress: (state: {
    readonly done: number;
    readonly total: number;
    readonly file: string;
  }) => void;
  /** The files are there, or could not be had. */
  readonly end: () => void;
  readonly note: (line: string) => void;
}

const SILENT: HubObserver = { progress: () => undefined, end: () => undefined, note: () => undefined };

let current = SILENT;

/** Sets who is told from now on; null: nobody. */
export function observeHub(observer: HubObserver | null): void {
  current = observer ?? SILENT;
}

export const hubObserver = (): HubObserver => current;
