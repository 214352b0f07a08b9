/**
 * The last step of `npm run build`: writes oclif.manifest.json, from which `yoco --help` and the choice of a command
 * are answered without loading the commands.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Plugin } from '@oclif/core/config';
import { packageRoot } from '../package-root.js';

const pjson = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as Plugin['pjson'];
const plugin = new Plugin({ root: packageRoot, pjson, ignoreManifest: true, errorOnManifestCreate: true });
await plugin.load();
writeFileSync(join(packageRoot, 'oclif.manifest.json'), `${JSON.stringify(plugin.manifest, null, 2)}\n`);
