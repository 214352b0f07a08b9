/** A page on a port of this machine that shows directories of results while they are written. */
import { statSync } from 'node:fs';
import { UsageError } from '../../errors.js';
import { closeServer, listen } from '../../serving/listen.js';
import { createLiveApp } from './app.js';

export interface LiveReportOptions {
  /** CSV files with figures of others, as for `buildReport`. */
  readonly references?: readonly string[];
  /** Default: this machine alone. */
  readonly host?: string;
  /** Default 0: any that is free. */
  readonly port?: number;
}

export interface LiveReport {
  /** `http://127.0.0.1:8080` */
  readonly url: string;
  /** Ends the server when its answers at work are given. */
  stop(): Promise<void>;
}

/**
 * Shows the training runs of directories live, with links to the reports of all that the directories hold. A directory may
 * be empty: runs appear on the page when they begin.
 *
 * @throws UsageError where a directory does not exist, RunError where it cannot listen there
 */
export async function serveReport(
  directories: readonly string[],
  { references = [], host = '127.0.0.1', port = 0 }: LiveReportOptions = {},
): Promise<LiveReport> {
  for (const directory of directories) {
    const found = statSync(directory, { throwIfNoEntry: false });
    if (found === undefined) throw new UsageError(`there is no directory ${directory}`);
    if (!found.isDirectory()) throw new UsageError(`${directory} is a file, not a directory of results`);
  }
  const app = createLiveApp({ directories: [...new Set(directories)], references });
  const { server, url } = await listen(app.fetch, host, port);
  return { url, stop: () => closeServer(server) };
}
