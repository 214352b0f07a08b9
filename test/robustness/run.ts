/** `npm run robustness`: the long forms of what the tests do briefly, one after the other or one by its name. */
import { endings } from '../process/endings.js';
import { tryMutations } from '../results/mutations.js';
import { fuzz } from './fuzz.js';
import { killLoop } from './kill.js';
import { stressLock } from './lock.js';

/** Mutations of results take longer than those of other files; a tenth of the time is theirs. */
const RESULTS_A_SECOND = 10;

const [what, ...words] = process.argv.slice(2);
const numbers = words.map(Number);
const say = (text: string): void => void process.stdout.write(`${text}\n`);

const LONG: Readonly<Record<string, () => Promise<boolean>>> = {
  async lock() {
    const { acquired, violations } = await stressLock({
      processes: 3,
      milliseconds: (numbers[0] ?? 30) * 1000,
    });
    say(`${acquired} acquisitions by three processes, ${violations} violations`);
    return violations === 0;
  },
  async fuzz() {
    const [seconds = 300, seed = 1] = numbers;
    const { inputs, failures } = await fuzz({ milliseconds: seconds * 1000, seed });
    const results = tryMutations(Math.ceil(seconds * RESULTS_A_SECOND), seed);
    const all = [...failures, ...results.faults];
    for (const failure of all) say(failure);
    say(`${inputs + results.read + results.refused} mutated inputs, ${all.length} failures`);
    return all.length === 0;
  },
  async kill() {
    const [random = 100, renames = 50] = numbers;
    const { runs, killed, differences } = await killLoop({ random, renames });
    for (const difference of differences) say(`other bytes: ${difference}`);
    say(`${runs} runs, ${killed} killed, ${differences.length} with other bytes after resume`);
    return differences.length === 0;
  },
  async endings() {
    let hangs = 0;
    await endings(numbers[0] ?? 200, words.slice(1), ({ command, mode, runs, hung, statuses }) => {
      hangs += hung.length;
      say(`${command}, ${mode}: ${runs} runs, ${hung.length} hung; statuses ${JSON.stringify(statuses)}`);
      for (const { stderr } of hung) say(`  ${stderr.split('\n').slice(-3).join(' | ')}`);
    });
    return hangs === 0;
  },
};

const names = what === undefined ? Object.keys(LONG) : [what];
const areNumbers = (what === 'endings' ? numbers.slice(0, 1) : numbers).every((value) => value >= 0);
if (!areNumbers || names.some((name) => !(name in LONG))) {
  say(
    'usage: npm run robustness [-- lock [SECONDS] | fuzz [SECONDS] [SEED] | kill [RANDOM] [RENAMES] | endings [RUNS] [COMMAND ...]]',
  );
  process.exitCode = 2;
} else {
  for (const name of names) if ((await LONG[name]?.()) !== true) process.exitCode = 1;
}
