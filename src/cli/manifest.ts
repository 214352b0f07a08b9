/**
 * The last step of `npm run build`: writes oclif.manifest.json, from which the choice of a command is answered without
 * loading the commands, and the text of `yoco --help` and of every `yoco COMMAND --help`.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { packageRoot } from '../package-root.js';
import { helpTexts } from './help-texts.js';
import { configOf, loadPlugin } from './main.js';
import { helpFile, platform, PLATFORM_MARK } from './start.js';

const plugin = await loadPlugin({ development: false, ignoreManifest: true });
writeFileSync(join(packageRoot, 'oclif.manifest.json'), JSON.stringify(plugin.manifest));
const directory = dirname(helpFile(''));
rmSync(directory, { recursive: true, force: true });
mkdirSync(directory, { recursive: true });
for (const [name, text] of await helpTexts(await configOf(plugin))) {
  writeFileSync(helpFile(name), text.replace(platform(), PLATFORM_MARK));
}
