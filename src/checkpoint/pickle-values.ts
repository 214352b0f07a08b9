/** What a pickle is made of, and what it may refer to. */

export class PickleDict extends Map<string, PickleValue> {}

/** A callable or a class that the allow-list names; `call` is absent for those that are only mentioned. */
export interface PickleGlobal {
  readonly global: string;
  readonly call?: (args: readonly PickleValue[]) => PickleValue;
}

/** Something that is not read, and that nothing calls: an unknown class, or what would be made of one. */
export class Opaque implements PickleObject {
  readonly object = 'opaque';
  constructor(readonly name: string) {}
}

/** An object made by one of the allowed globals or from a persistent id. */
export interface PickleObject {
  readonly object: string;
}

export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickleValue[]
  | PickleDict
  | PickleGlobal
  | PickleObject;

export interface PickleRules {
  /** `module.name` → what it stands for. */
  readonly globals: ReadonlyMap<string, PickleGlobal>;
  /** Turns a persistent id (the argument of BINPERSID) into an object. */
  readonly persistent: (id: PickleValue) => PickleValue;
}

export function isGlobal(value: PickleValue | undefined): value is PickleGlobal {
  return typeof value === 'object' && value !== null && 'global' in value;
}
