/** A hub on this machine: the part of the API that is used, with failures on order. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gitSha1, hex, sha256, type StoredRepository } from './repositories.js';

/** What a request gets in place of its answer. */
export interface Fault {
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Bytes after which the connection breaks. */
  readonly breakAfter?: number;
  /** Sends this in place of a file. */
  readonly content?: Buffer;
}

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
}

const TOKEN = 'hf_secret';
const PAGE = 3;

export class HubServer {
  readonly asked: Asked[] = [];
  readonly repositories: StoredRepository[] = [];
  /** Asked in turn; the first that answers is taken away. */
  faults: ((asked: Asked) => Fault | undefined)[] = [];
  readonly commits: { summary: string; files: Map<string, Buffer> }[] = [];
  private readonly uploads = new Map<string, Buffer>();
  private server: Server | undefined;
  private port = 0;

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const server = createServer((request, response) => {
      this.answer(request, response).catch((error: unknown) => {
        response.writeHead(500).end(String(error));
      });
    });
    this.server = server;
    await new Promise<void>((done) => server.listen(0, done));
    this.port = (server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    this.server?.closeAllConnections();
    await new Promise((done) => this.server?.close(done));
  }

  /** Adds a repository; `large` says which files are in large-file storage. */
  add(
    kind: 'models' | 'datasets',
    name: string,
    files: Readonly<Record<string, string | Buffer>>,
    {
      large = /\.(safetensors|parquet|pth)$/,
      ...access
    }: { large?: RegExp; isPrivate?: boolean; isGated?: boolean } = {},
  ): StoredRepository {
    const repository: StoredRepository = {
      kind,
      name,
      ...access,
      files: new Map(),
      commits: [],
      branches: new Map(),
    };
    this.repositories.push(repository);
    this.commit(repository, files, large);
    return repository;
  }

  /** A branch with files of its own. */
  branch(repository: StoredRepository, name: string, files: Readonly<Record<string, string | Buffer>>): void {
    const other = this.add(repository.kind, `${repository.name}@${name}`, files);
    repository.branches.set(name, other);
  }

  /** Replaces files, as a new commit of `main`. */
  commit(
    repository: StoredRepository,
    files: Readonly<Record<string, string | Buffer>>,
    large = /\.(safetensors|parquet|pth)$/,
  ): string {
    const entries = Object.entries(files).map(
      ([path, content]) => [path, { content: Buffer.from(content), isLarge: large.test(path) }] as const,
    );
    repository.files = new Map(entries);
    const commit = hex('sha1', repository.name, String(repository.commits.length), ...Object.keys(files));
    repository.commits.push(commit);
    return commit;
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body: Buffer[] = [];
    for await (const part of request) body.push(part as Buffer);
    const { pathname, searchParams } = new URL(request.url ?? '', this.endpoint);
    const path = decodeURIComponent(pathname);
    const asked: Asked = { method: request.method ?? '', path, headers: request.headers };
    this.asked.push(asked);
    const fault = this.takeFault(asked);
    if (fault?.status !== undefined) {
      response.writeHead(fault.status, fault.headers).end(JSON.stringify({ error: 'on order' }));
      return;
    }
    const content = Buffer.concat(body);
    if (path.startsWith('/cdn/')) this.sendLarge(path, asked, response, fault);
    else if (request.method === 'GET') this.read(path, searchParams, asked, response, fault);
    else this.write(path, content, asked, response);
  }

  private takeFault(asked: Asked): Fault | undefined {
    for (const [index, fault] of this.faults.entries()) {
      const found = fault(asked);
      if (found === undefined) continue;
      this.faults.splice(index, 1);
      return found;
    }
    return undefined;
  }

  private sendLarge(path: string, asked: Asked, response: ServerResponse, fault?: Fault): void {
    const oid = path.slice('/cdn/'.length);
    const all = this.repositories.flatMap(({ files }) => [...files.values()]);
    const file = all.find(({ content }) => sha256(content) === oid);
    this.send(file?.content ?? Buffer.alloc(0), asked, response, fault);
  }

  private find(kind: string, name: string): StoredRepository | undefined {
    return this.repositories.find((other) => other.kind === kind && other.name === name);
  }

  private read(
    path: string,
    query: URLSearchParams,
    asked: Asked,
    response: ServerResponse,
    fault?: Fault,
  ): void {
    const api = /^\/api\/(models|datasets)\/(.+?)\/(revision|tree)\/(.+)$/.exec(path);
    const file = /^\/(datasets\/)?(.+?)\/resolve\/([^/]+)\/(.+)$/.exec(path);
    const kind = api?.[1] ?? (file?.[1] === undefined ? 'models' : 'datasets');
    const repository = this.find(kind, api?.[2] ?? file?.[2] ?? '');
    if (repository === undefined || !this.mayRead(repository, asked)) {
      const hasToken = asked.headers.authorization !== undefined;
      const code = hasToken ? { 'X-Error-Code': 'RepoNotFound' } : {};
      response.writeHead(hasToken ? 404 : 401, code).end(JSON.stringify({ error: 'Repository not found' }));
      return;
    }
    const revision = api?.[4] ?? file?.[3] ?? '';
    const branches = [...repository.branches.values()];
    const branch =
      repository.branches.get(revision) ?? branches.find(({ commits }) => commits.includes(revision));
    const found = branch ?? repository;
    if (branch === undefined && revision !== 'main' && !repository.commits.includes(revision)) {
      response.writeHead(404, { 'X-Error-Code': 'RevisionNotFound' }).end('{}');
    } else if (api?.[3] === 'revision') {
      const sha = found.commits.includes(revision) ? revision : found.commits.at(-1);
      response.end(JSON.stringify({ _id: '1', id: repository.name, sha, lastModified: '2026-01-01' }));
    } else if (api !== null) this.list(found, path, query, response);
    else this.sendFile(found, file?.[4] ?? '', asked, response, fault);
  }

  private mayRead({ isPrivate = false }: StoredRepository, { headers }: Asked): boolean {
    return !isPrivate || headers.authorization === `Bearer ${TOKEN}`;
  }

  /** A few files at a time, as the hub does with a thousand. */
  private list(
    { files }: StoredRepository,
    path: string,
    query: URLSearchParams,
    response: ServerResponse,
  ): void {
    const from = Number(query.get('cursor') ?? 0);
    const entries = [...files].slice(from, from + PAGE).map(([name, { content, isLarge }]) => ({
      ...{ type: 'file', path: name, oid: gitSha1(content), size: content.length },
      ...(isLarge ? { lfs: { oid: sha256(content), size: content.length, pointerSize: 130 } } : {}),
    }));
    const next = `${this.endpoint}${path}?recursive=true&cursor=${from + PAGE}`;
    if (from + PAGE < files.size) response.setHeader('Link', `<${next}>; rel="next"`);
    response.end(
      JSON.stringify(from === 0 ? [{ type: 'directory', path: 'd', oid: '', size: 0 }, ...entries] : entries),
    );
  }

  private sendFile(
    { files, isGated = false }: StoredRepository,
    path: string,
    asked: Asked,
    response: ServerResponse,
    fault?: Fault,
  ): void {
    const file = files.get(path);
    if (isGated) response.writeHead(403, { 'X-Error-Code': 'GatedRepo' }).end();
    else if (file === undefined) response.writeHead(404, { 'X-Error-Code': 'EntryNotFound' }).end();
    // By another name of this machine: another origin, which must not see the token.
    else if (file.isLarge) {
      response
        .writeHead(302, { Location: `http://localhost:${this.port}/cdn/${sha256(file.content)}` })
        .end();
    } else this.send(file.content, asked, response, fault);
  }

  private send(content: Buffer, { headers }: Asked, response: ServerResponse, fault: Fault = {}): void {
    const whole = fault.content ?? content;
    const from = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
    const part = whole.subarray(from);
    response.setHeader('Content-Length', part.length);
    if (from > 0)
      response.writeHead(206, { 'Content-Range': `bytes ${from}-${whole.length - 1}/${whole.length}` });
    if (fault.breakAfter === undefined) {
      response.end(part);
      return;
    }
    response.write(part.subarray(0, fault.breakAfter), () => {
      response.socket?.destroySoon();
    });
  }

  private write(path: string, content: Buffer, { headers }: Asked, response: ServerResponse): void {
    const json = (value: unknown): void => {
      response.setHeader('Content-Type', 'application/json');
      response.end(JSON.stringify(value));
    };
    if (path.startsWith('/upload/')) {
      this.uploads.set(path.slice('/upload/'.length), content);
      response.end();
    } else if (headers.authorization !== `Bearer ${TOKEN}`) {
      response.writeHead(401).end(JSON.stringify({ error: 'Invalid credentials in Authorization header' }));
    } else if (path === '/api/repos/create')
      this.create(JSON.parse(content.toString()) as Created, response, json);
    else if (path.includes('/preupload/')) {
      const { files } = JSON.parse(content.toString()) as { files: { path: string }[] };
      const isLarge = (name: string): boolean => name.endsWith('.safetensors');
      json({
        files: files.map(({ path: name }) => ({ path: name, uploadMode: isLarge(name) ? 'lfs' : 'regular' })),
      });
    } else if (path.endsWith('/info/lfs/objects/batch')) {
      const { objects } = JSON.parse(content.toString()) as { objects: { oid: string; size: number }[] };
      const upload = (oid: string): object => ({
        actions: { upload: { href: `${this.endpoint}/upload/${oid}` } },
      });
      json({ transfer: 'basic', objects: objects.map(({ oid, size }) => ({ oid, size, ...upload(oid) })) });
    } else if (path.includes('/commit/')) {
      this.takeCommit(content);
      json({ commitOid: 'c'.repeat(40), commitUrl: `${this.endpoint}/commit`, hookOutput: '' });
    } else response.writeHead(404).end();
  }

  private create(
    { name, organization, visibility }: Created,
    response: ServerResponse,
    json: (value: unknown) => void,
  ): void {
    const repository = `${organization}/${name}`;
    if (this.find('models', repository) !== undefined) {
      response.writeHead(409).end(JSON.stringify({ error: 'You already created this model repo' }));
      return;
    }
    this.add('models', repository, {}, { isPrivate: visibility === 'private' });
    json({ url: `${this.endpoint}/${repository}`, id: '1' });
  }

  private takeCommit(content: Buffer): void {
    const lines = content
      .toString()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as CommitLine);
    const files = new Map<string, Buffer>();
    for (const { key, value } of lines) {
      if (key === 'file') files.set(value.path, Buffer.from(value.content ?? '', 'base64'));
      if (key === 'lfsFile') files.set(value.path, this.uploads.get(value.oid ?? '') ?? Buffer.alloc(0));
    }
    this.commits.push({ summary: lines[0]?.value.summary ?? '', files });
  }
}

interface Created {
  readonly name: string;
  readonly organization: string;
  readonly visibility?: string;
}

interface CommitLine {
  readonly key: string;
  readonly value: { path: string; content?: string; oid?: string; summary?: string };
}
