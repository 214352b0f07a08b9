/** The help of the command line, as oclif prints it but for the line of usage. */
import { CommandHelp, Help } from '@oclif/core/help';

class CommandLineCommandHelp extends CommandHelp {
  /** Arguments and required flags. oclif's own line has every flag, which the lists below it explain. */
  protected override defaultUsage(): string {
    const { id, args, flags, strict } = this.command;
    const words = Object.values(args).map(({ name, required }, index, { length }) => {
      const rest = strict === false && index === length - 1 ? '...' : '';
      return required ? name.toUpperCase() + rest : `[${name.toUpperCase()}${rest}]`;
    });
    const values = Object.values(flags).flatMap((flag) =>
      flag.required && flag.type === 'option'
        ? [`--${flag.name} ${flag.options?.join('|') ?? [flag.helpValue ?? 'VALUE'].flat().join(' ')}`]
        : [],
    );
    return [id, ...words, ...values, '[FLAGS]'].join(' ');
  }
}

export default class CommandLineHelp extends Help {
  protected override CommandHelpClass = CommandLineCommandHelp;
}
