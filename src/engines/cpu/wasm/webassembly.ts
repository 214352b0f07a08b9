/** Node's WebAssembly, whose types TypeScript has only among those of browsers. */

export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
  /** @throws RangeError where the system refuses */
  grow(pages: number): number;
}

/** A compiled module: threads can be sent it. */
export interface Module {
  readonly compiled?: never;
}

interface Api {
  validate(bytes: Uint8Array<ArrayBuffer>): boolean;
  readonly Memory: new (options: {
    readonly initial: number;
    readonly maximum: number;
    readonly shared: true;
  }) => SharedMemory;
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => Module;
  readonly Instance: new (
    module: Module,
    imports: { readonly env: { readonly memory: SharedMemory } },
  ) => { readonly exports: Readonly<Record<string, unknown>> };
}

export const WebAssembly = (globalThis as unknown as { readonly WebAssembly: Api }).WebAssembly;
