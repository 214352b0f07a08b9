/** Several processes as one run: their ranks, how they talk, and starting them. */
export { SOLO, type Communicator, type Reduction } from '../distributed/communicator.js';
export { launchRanks, type LaunchOptions, type LaunchResult, type Transport } from '../distributed/launch.js';
export { ranksOf, requireDividing, type Launcher, type Ranks } from '../distributed/ranks.js';
export { joinRanks, startOnRank } from '../engines/join.js';
