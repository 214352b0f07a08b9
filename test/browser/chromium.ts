/**
 * A headless Chromium that a test looks at pages with: Chrome's DevTools protocol over two pipes, messages divided by zero
 * bytes (https://chromedevtools.github.io/devtools-protocol).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import type { Readable, Writable } from 'node:stream';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** `$CHROMIUM`, or the first of the usual names on the path; null where there is none. */
export function findChromium(): string | null {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  const paths = folders.flatMap((folder) => NAMES.map((name) => join(folder, name)));
  return paths.find((path) => existsSync(path)) ?? null;
}

const FLAGS = [
  ...['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars'],
  ...['--no-first-run', '--disable-background-networking', '--window-size=1280,1000'],
  '--remote-debugging-pipe',
];

type Answer = Readonly<Record<string, unknown>>;
interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Answer;
  readonly result?: Answer;
  readonly error?: { readonly message: string };
}

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

export class Chromium {
  private readonly waiting = new Map<number, Waiting>();
  private session: string | undefined;
  private sent = 0;
  private rest = '';
  /** What went wrong in the page: exceptions, and what its security policy refused. */
  readonly faults: string[] = [];
  /** Every address that the page asked for. */
  readonly requests: string[] = [];

  private constructor(
    private readonly child: ChildProcess,
    private readonly profile: string,
  ) {
    const output = child.stdio[4] as Readable;
    output.setEncoding('utf8').on('data', (text: string) => {
      this.take(text);
    });
    child.on('close', () => {
      for (const { reject } of this.waiting.values()) reject(new Error('the browser has ended'));
    });
  }

  /** An empty page. */
  static async start(path: string): Promise<Chromium> {
    const profile = mkdtempSync(join(tmpdir(), 'yoco-chromium-'));
    const child = spawn(path, [...FLAGS, `--user-data-dir=${profile}`, 'about:blank'], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    });
    const browser = new Chromium(child, profile);
    const { targetId } = await browser.send('Target.createTarget', { url: 'about:blank' });
    const { sessionId } = await browser.send('Target.attachToTarget', { targetId, flatten: true });
    browser.session = String(sessionId);
    for (const domain of ['Page', 'Runtime', 'Network', 'Log']) await browser.send(`${domain}.enable`);
    return browser;
  }

  send(method: string, params: object = {}): Promise<Answer> {
    const id = ++this.sent;
    const text = JSON.stringify({ id, method, params, sessionId: this.session });
    (this.child.stdio[3] as Writable).write(`${text}\0`);
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  private take(text: string): void {
    const messages = (this.rest + text).split('\0');
    this.rest = messages.pop() ?? '';
    for (const message of messages) this.receive(JSON.parse(message) as Message);
  }

  private receive({ id, method, params = {}, result = {}, error }: Message): void {
    if (method === 'Runtime.exceptionThrown' || method === 'Log.entryAdded') {
      this.faults.push(JSON.stringify(params));
    }
    if (method === 'Network.requestWillBeSent') {
      this.requests.push((params.request as { url: string }).url);
    }
    const waiting = id === undefined ? undefined : this.waiting.get(id);
    if (id === undefined || waiting === undefined) return;
    this.waiting.delete(id);
    if (error) waiting.reject(new Error(error.message));
    else waiting.resolve(result);
  }

  async open(url: string): Promise<void> {
    await this.send('Page.navigate', { url });
  }

  /** The value of an expression in the page, or of the promise that it is. */
  async evaluate(expression: string): Promise<unknown> {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      ...{ expression, awaitPromise: true, returnByValue: true },
    });
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
    return (result as { value?: unknown }).value;
  }

  /** Waits until an expression in the page is true. @throws after half a minute, with what the page shows */
  async until(expression: string): Promise<void> {
    const found = await this.evaluate(`new Promise((resolve) => {
      const began = performance.now();
      const look = () => {
        let holds = false;
        try { holds = Boolean(${expression}); } catch {}
        if (holds || performance.now() - began > 30_000) resolve(holds);
        else setTimeout(look, 20);
      };
      look();
    })`);
    if (found === true) return;
    const shown = String(await this.evaluate('document.body.innerText'));
    throw new Error(`never true: ${expression}; faults: ${this.faults.join(' ')}; the page: ${shown}`);
  }

  async moveMouse(x: number, y: number): Promise<void> {
    await this.send('Input.dispatchMouseEvent', { type: 'mouseMoved', x, y });
  }

  /** PNG of the whole page. */
  async screenshot(): Promise<Buffer> {
    const { data } = await this.send('Page.captureScreenshot', { captureBeyondViewport: true });
    return Buffer.from(String(data), 'base64');
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.child.once('close', resolve));
    this.session = undefined;
    await this.send('Browser.close').catch(() => undefined);
    await closed;
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
