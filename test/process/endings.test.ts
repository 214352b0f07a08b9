/** The short form of `endings.ts`: processes end, also where nothing reaches the disk. */
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { scratchDirectory } from '../checkpoint/scratch.js';
import { skipBecause } from '../skip.js';
import { writeInputs } from './commands.js';
import { buildFailingFsync, endingOf } from './endings.js';

const test = suite('processes end');
const at = scratchDirectory(test);

if (process.platform !== 'linux') skipBecause('needs /proc and LD_PRELOAD', test, 'endings');
else {
  test.before.each(() => {
    writeInputs(at('.'));
  });

  test('with every fsync failing: stdout is not ours to sync, files are', async () => {
    const preload = buildFailingFsync(at('.'));
    if (preload === null) return;
    const [generate, needle] = await Promise.all(
      ['generate', 'needle'].map((command) =>
        endingOf(command, { mode: 'fsync', directory: at('.'), preload }),
      ),
    );
    assert.equal([generate?.hung, generate?.status], [false, 0], generate?.stderr);
    assert.equal([needle?.hung, needle?.status], [false, 1], needle?.stderr);
    assert.match(needle?.stderr ?? '', /yoco: cannot write .*: the device reports an error/);
  });

  test('with a signal at a random moment', async () => {
    const endings = await Promise.all(
      ['train', 'needle'].map((command) => endingOf(command, { mode: 'signal', directory: at('.') })),
    );
    for (const { hung, command, stderr } of endings) assert.is(hung, false, `${command}: ${stderr}`);
  });
}

test.run();
