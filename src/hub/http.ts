/** Requests to the hub: the token where it belongs, waiting where it is asked for, and failures as one line. */
import { setTimeout as sleep } from 'node:timers/promises';
import { RunError, UsageError } from '../errors.js';
import { printable } from '../printable.js';
import { toolkitVersion } from '../package-root.js';
import { hubObserver } from './observer.js';
import type { HubSettings } from './settings.js';

/** Failures in a row after which a request is given up. */
export const ATTEMPTS = 5;
/** A longer wait is the person's to decide. */
const LONGEST_WAIT = 120;
/** What passes: too many requests, and a server or a gateway in trouble. */
const PASSING = new Set([408, 429, 500, 502, 503, 504]);

/** An answer that is none, and that is not told apart by its text alone. */
export class StatusError extends RunError {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

/** What a request is for. */
export interface Purpose {
  readonly settings: HubSettings;
  /** What errors begin with: `hf:owner/name`. */
  readonly about: string;
}

/** Before the n-th attempt, counted from 0: the second is made at once. */
export async function pauseBefore(attempt: number): Promise<void> {
  if (attempt >= 2) await sleep(1000 * 2 ** (attempt - 2));
}

/**
 * Asks, and asks again where the failure may pass. Redirects are followed; the token goes to the hub alone.
 * @returns an answer with a status from 200 to 299
 * @throws UsageError for a repository or a revision that is not there, RunError for everything else
 */
export async function request(
  purpose: Purpose,
  url: string | URL,
  init: RequestInit = {},
): Promise<Response> {
  for (let attempt = 1; ; attempt += 1) {
    const isLast = attempt === ATTEMPTS;
    try {
      const response = await fetch(url, { ...init, headers: headersFor(purpose.settings, url, init) });
      if (response.ok) return response;
      if (isLast || !PASSING.has(response.status)) throw await failure(purpose, url, response);
      await response.body?.cancel();
      await obeyRetryAfter(purpose, response, attempt);
    } catch (error) {
      if (error instanceof RunError || error instanceof UsageError) throw error;
      if (isLast || !mayPass(error)) throw unreachable(purpose, url, error);
      await pauseBefore(attempt);
    }
  }
}

/** Nobody listens there, there is no such place, or the address is none: asking again does not help. */
function mayPass(error: unknown): boolean {
  const { code } = causeOf(error);
  return code !== undefined && !['ECONNREFUSED', 'ENOTFOUND', 'ERR_INVALID_URL'].includes(code);
}

/** `fetch` hides the reason of a failure in `cause`. */
const causeOf = (error: unknown): { code?: string; message?: string } =>
  (error instanceof Error && error.cause instanceof Error ? error.cause : error) as NodeJS.ErrnoException;

/** `fetch` as the hub's library takes it. */
export const fetchFor =
  (purpose: Purpose): typeof fetch =>
  (input, init) => {
    if (input instanceof Request) throw new TypeError('a request is named by its address');
    return request(purpose, input, init);
  };

function headersFor({ endpoint, token }: HubSettings, url: string | URL, { headers }: RequestInit): Headers {
  const all = new Headers(headers);
  all.set('User-Agent', `yoco/${toolkitVersion()}`);
  all.delete('Authorization');
  if (token !== null && new URL(url).origin === new URL(endpoint).origin) {
    all.set('Authorization', `Bearer ${token.value}`);
  }
  return all;
}

/** `Retry-After` in seconds or as a date (RFC 9110). */
async function obeyRetryAfter({ about }: Purpose, response: Response, attempt: number): Promise<void> {
  const header = response.headers.get('retry-after');
  if (header === null) {
    await pauseBefore(attempt);
    return;
  }
  const asked = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  const seconds = Number.isFinite(asked) ? Math.max(0, Math.ceil(asked)) : 1;
  if (seconds > LONGEST_WAIT) {
    throw new RunError(
      `${about}: the hub asks to wait ${seconds} s (status ${response.status}): try again then`,
    );
  }
  if (seconds > 1) hubObserver().note(`the hub asks to wait ${seconds} s`);
  await sleep(1000 * seconds);
}

/** The error for an answer that is none, by status and by the code the hub adds. */
async function failure({ settings, about }: Purpose, url: string | URL, response: Response): Promise<Error> {
  const { status, headers } = response;
  const code = headers.get('x-error-code') ?? '';
  const said = printable(headers.get('x-error-message') ?? (await messageIn(response)), 300);
  const { token } = settings;
  if (code === 'GatedRepo') {
    return new RunError(
      `${about}: access is restricted: accept the terms on ${settings.endpoint} with your account, and set HF_TOKEN to its token` +
        (token === null ? '' : ` (the one from ${token.from} has no access)`),
    );
  }
  if (code === 'RevisionNotFound') return new UsageError(`${about}: the repository has no such revision`);
  if (code === 'EntryNotFound')
    return new RunError(`${about}: the hub has no file ${printable(String(url), 200)}`);
  const isHidden = status === 401 && (token === null || code === 'RepoNotFound');
  if (code === 'RepoNotFound' || isHidden || (status === 404 && code === '')) {
    const hint = token === null ? '; for a private one set HF_TOKEN' : '';
    return new UsageError(
      `${about}: ${settings.endpoint} has no such repository, or it is private: check the name${hint}`,
    );
  }
  if (status === 401 && token !== null) {
    return new RunError(`${about}: the hub does not accept the token from ${token.from}: renew it (${said})`);
  }
  if (status === 403) return new RunError(`${about}: the hub refuses access (403): ${said}`);
  if (status === 429)
    return new RunError(`${about}: too many requests: try again later${token ? '' : ', or set HF_TOKEN'}`);
  return new StatusError(`${about}: the hub answered with status ${status}: ${said}`, status);
}

async function messageIn(response: Response): Promise<string> {
  const text = (await response.text().catch(() => '')).slice(0, 2000);
  try {
    const { error } = JSON.parse(text) as { error?: unknown };
    return typeof error === 'string' ? error : response.statusText;
  } catch {
    return text.trim() === '' || text.includes('<') ? response.statusText : text;
  }
}

/** The error for a network that fails. */
export function unreachable({ about }: Purpose, url: string | URL, error: unknown): RunError {
  const { code, message } = causeOf(error);
  const reason = printable(code ?? message ?? String(error), 200);
  return new RunError(
    `${about}: cannot reach ${new URL(url).origin} (${reason}): check the network; HF_HUB_OFFLINE=1 uses what the cache has`,
    { cause: error },
  );
}
