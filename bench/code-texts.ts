/**
 * The JavaScript and TypeScript sources of packages that `npm ci` installs from the lock file, one text a package, as held-out
 * code: DIR/NAME.txt, and DIR/code-texts.csv with what each holds and its SHA-256.
 *
 *     node --import tsx bench/code-texts.ts DIR
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'csv-stringify/sync';
import { packageRoot } from '../src/package-root.js';

/** Packages long enough for 262,144 tokens, and the folder that has their sources. */
const SOURCES: readonly [name: string, folder: string][] = [
  ['@tensorflow/tfjs-core', 'dist'],
  ['@tensorflow/tfjs-layers', 'dist'],
  ['@tensorflow/tfjs-backend-webgl', 'dist'],
  ['@typescript-eslint/eslint-plugin', 'dist'],
  ['echarts', 'lib'],
  ['eslint', 'lib'],
  ['typescript', 'lib'],
  ['zrender', 'src'],
];
const SOURCE = /\.[cm]?[jt]s$/;
/** Bundles, minified code, declarations, messages in other languages, and TypeScript's second copy of itself. */
const LEFT_OUT =
  /\.min\.|\.d\.[cm]?ts$|(^|\/)(i18n|node_modules)\/|(^|\/)tf-[^/]*$|(^|\/)(miniprogram|fesm2017)\/|(^|\/)_tsc\.js$/;
const SOURCE_MAP = /\/\/# sourceMappingURL=.*$/gm;

const [directory] = process.argv.slice(2);
if (directory === undefined) throw new Error('expected a directory to write to');
mkdirSync(directory, { recursive: true });
const rows = SOURCES.map(([name, folder]) => {
  const root = join(packageRoot, 'node_modules', name);
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  const files = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map((file) => file.replaceAll('\\', '/'))
    .filter((file) => SOURCE.test(file) && !LEFT_OUT.test(file))
    .sort();
  const text = files
    .map((file) => readFileSync(join(root, folder, file), 'utf8').replaceAll(SOURCE_MAP, ''))
    .join('\n');
  writeFileSync(join(directory, `${name.replace('@', '').replace('/', '-')}.txt`), text);
  const sha256 = createHash('sha256').update(text).digest('hex');
  return { package: name, version, folder, files: files.length, bytes: Buffer.byteLength(text), sha256 };
});
writeFileSync(join(directory, 'code-texts.csv'), stringify(rows, { header: true }));
