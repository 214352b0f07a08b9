/** Where the hub is, who asks, and where its files are kept: the variables that Hugging Face's own library reads. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { UsageError } from '../errors.js';
import { readBytes } from '../files/read.js';

export interface HubSettings {
  /** Without a slash at its end. */
  readonly endpoint: string;
  /** The cache that Hugging Face's libraries share. */
  readonly cache: string;
  /** Nothing is asked of the network. */
  readonly offline: boolean;
  /** The access token and where it is from; null without one. */
  readonly token: { readonly value: string; readonly from: string } | null;
}

const TRUE = /^(1|on|yes|true)$/i;
const MAX_TOKEN_BYTES = 4096;

/** @throws UsageError for an endpoint that is no address, RunError for a token file that cannot be read */
export function hubSettings(environment: NodeJS.ProcessEnv = process.env): HubSettings {
  const home = hubHome(environment);
  return {
    endpoint: endpointOf(environment.HF_ENDPOINT),
    cache: environment.HF_HUB_CACHE ?? environment.HUGGINGFACE_HUB_CACHE ?? join(home, 'hub'),
    offline: [environment.HF_HUB_OFFLINE, environment.TRANSFORMERS_OFFLINE].some(
      (value) => value !== undefined && TRUE.test(value),
    ),
    token: tokenOf(environment, home),
  };
}

const hubHome = ({ HF_HOME, XDG_CACHE_HOME }: NodeJS.ProcessEnv): string =>
  HF_HOME ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface');

function endpointOf(text = 'https://huggingface.co'): string {
  const address = URL.canParse(text) ? new URL(text) : undefined;
  if (address === undefined || !/^https?:$/.test(address.protocol)) {
    throw new UsageError(`HF_ENDPOINT '${text}' is no address: write https://… or http://…`);
  }
  return text.replace(/\/+$/, '');
}

function tokenOf(environment: NodeJS.ProcessEnv, home: string): HubSettings['token'] {
  for (const name of ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN']) {
    const value = environment[name]?.trim();
    if (value !== undefined && value !== '') return { value, from: name };
  }
  const file = environment.HF_TOKEN_PATH ?? join(home, 'token');
  if (!existsSync(file)) return null;
  const value = readBytes(file, MAX_TOKEN_BYTES).toString('utf8').trim();
  return value === '' ? null : { value, from: file };
}
