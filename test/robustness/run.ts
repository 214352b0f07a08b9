/** `npm run robustness -- lock|fuzz|kill [NUMBERS]`: the long forms of what the tests do briefly. */
import { fuzz } from './fuzz.js';
import { killLoop } from './kill.js';
import { stressLock } from './lock.js';

const [what = '', ...words] = process.argv.slice(2);
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
    const { inputs, failures } = await fuzz({
      milliseconds: (numbers[0] ?? 300) * 1000,
      seed: numbers[1] ?? 1,
    });
    for (const failure of failures) say(failure);
    say(`${inputs} mutated inputs, ${failures.length} failures`);
    return failures.length === 0;
  },
  async kill() {
    const [random = 100, renames = 50] = numbers;
    const { killed, differences } = await killLoop({ random, renames });
    for (const difference of differences) say(`other bytes: ${difference}`);
    say(`${random + renames} runs, ${killed} killed, ${differences.length} with other bytes after resume`);
    return differences.length === 0;
  },
};

const run = LONG[what];
if (run === undefined || numbers.some((value) => !(value >= 0))) {
  say('usage: npm run robustness -- lock [SECONDS] | fuzz [SECONDS] [SEED] | kill [RANDOM] [RENAMES]');
  process.exitCode = 2;
} else if (!(await run())) {
  process.exitCode = 1;
}
