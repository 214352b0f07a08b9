/** Ends a text before the first of some texts, which may come in pieces. */
export class StopTexts {
  /** What may be the beginning of a stop text. */
  private held = '';

  constructor(private readonly stops: readonly string[]) {}

  /** @returns what is certainly part of the text, and whether a stop text has ended it */
  push(text: string): { ready: string; isStopped: boolean } {
    const all = this.held + text;
    const found = this.stops.map((stop) => all.indexOf(stop)).filter((at) => at >= 0);
    if (found.length > 0) {
      this.held = '';
      return { ready: all.slice(0, Math.min(...found)), isStopped: true };
    }
    const kept = Math.max(0, ...this.stops.map((stop) => overlap(all, stop)));
    this.held = all.slice(all.length - kept);
    return { ready: all.slice(0, all.length - kept), isStopped: false };
  }

  /** What was held back, and the last of the text, cut where a stop text begins. */
  end(text: string): string {
    const { ready } = this.push(text);
    const rest = this.held;
    this.held = '';
    return ready + rest;
  }
}

/** Characters at the end of a text with which a stop text may begin. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
