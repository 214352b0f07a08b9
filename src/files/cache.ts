/** Where what is costly to make again is kept between runs. */
import { homedir } from 'node:os';
import { join } from 'node:path';

/** `$YOCO_CACHE`, else `$XDG_CACHE_HOME/yoco`, else `~/.cache/yoco`; a folder of it. */
export function cacheFolder(
  kind: 'cuda' | 'data' | 'gguf' | 'tokens',
  environment: NodeJS.ProcessEnv = process.env,
): string {
  const base =
    environment.YOCO_CACHE ?? join(environment.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'yoco');
  return join(base, kind);
}
