#!/usr/bin/env -S node --import tsx
import { start } from '../src/cli/start.ts';

await start({ development: true });
