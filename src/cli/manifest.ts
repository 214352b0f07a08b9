/**
 * The last step of `npm run build`: writes oclif.manifest.json, from which the choice of a command and its help are
 * answered without loading the commands, and the text of `yoco --help`.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Help } from '@oclif/core/help';
import { packageRoot } from '../package-root.js';
import { configOf, loadPlugin } from './main.js';
import { platform, PLATFORM_MARK, ROOT_HELP } from './start.js';

class RootHelp extends Help {
  text = '';

  protected override log(...words: string[]): void {
    this.text += `${words.join(' ')}\n`;
  }
}

const plugin = await loadPlugin({ development: false, ignoreManifest: true });
writeFileSync(join(packageRoot, 'oclif.manifest.json'), JSON.stringify(plugin.manifest));
const config = await configOf(plugin);
const help = new RootHelp(config);
await help.showHelp([]);
writeFileSync(ROOT_HELP, help.text.replace(platform(), PLATFORM_MARK));
