#!/usr/bin/env -S node --import tsx
import { run } from '../src/cli/main.ts';

await run({ development: true });
