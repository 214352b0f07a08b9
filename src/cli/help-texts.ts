/** The help of every command as text, made once by the build: printing it takes no framework. */
import type { Config } from '@oclif/core/config';
import CommandLineHelp from './help.js';
import { HELP_COLUMNS, ROOT_HELP } from './start.js';

class TextHelp extends CommandLineHelp {
  private text = '';

  protected override log(...words: string[]): void {
    this.text += `${words.join(' ')}\n`;
  }

  async of(argv: string[]): Promise<string> {
    this.text = '';
    await this.showHelp(argv);
    return this.text;
  }
}

/** Help texts without colors by the name of their command, and the list of commands as `ROOT_HELP`. */
export async function helpTexts(config: Config): Promise<Map<string, string>> {
  const help = new TextHelp(config, {
    ...config.pjson.oclif.helpOptions,
    maxWidth: HELP_COLUMNS,
    stripAnsi: true,
  });
  const texts = new Map([[ROOT_HELP, await help.of([])]]);
  for (const id of config.commandIDs) texts.set(id, await help.of([id]));
  return texts;
}
