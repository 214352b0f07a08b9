/** A hub on this machine and an empty cache for each test of a suite. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'uvu';
import { HubServer } from './server.js';

const VARIABLES = [
  ...[
    'HF_ENDPOINT',
    'HF_HOME',
    'HF_HUB_CACHE',
    'HUGGINGFACE_HUB_CACHE',
    'HF_TOKEN',
    'HUGGING_FACE_HUB_TOKEN',
  ],
  ...['HF_TOKEN_PATH', 'HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE', 'YOCO_CACHE', 'XDG_CACHE_HOME'],
];

export interface HubTest {
  readonly server: HubServer;
  /** A path in the test's own directory. */
  readonly at: (name: string) => string;
}

export function withHub(test: Test): HubTest {
  const server = new HubServer();
  const before = VARIABLES.map((name) => [name, process.env[name]] as const);
  let directory = '';
  test.before(async () => {
    await server.start();
  });
  test.before.each(() => {
    directory = mkdtempSync(join(tmpdir(), 'yoco-hub-'));
    for (const name of VARIABLES) Reflect.deleteProperty(process.env, name);
    Object.assign(process.env, {
      HF_ENDPOINT: server.endpoint,
      HF_HOME: directory,
      YOCO_CACHE: join(directory, 'yoco'),
    });
    server.asked.length = server.repositories.length = server.commits.length = 0;
    server.faults = [];
  });
  test.after.each(() => {
    rmSync(directory, { recursive: true, force: true });
  });
  test.after(async () => {
    for (const [name, value] of before) {
      if (value === undefined) Reflect.deleteProperty(process.env, name);
      else process.env[name] = value;
    }
    await server.stop();
  });
  return { server, at: (name) => join(directory, name) };
}
