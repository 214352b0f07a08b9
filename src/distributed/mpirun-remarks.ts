/**
 * What Open MPI's mpirun says itself between the lines of its ranks: paragraphs between lines of dashes. Those on how ranks ended
 * are kept back, but for the rank that they name; `yoco launch` says that in a line of its own.
 */
const BORDER = /^-{40,}$/;
const ENDED = /^(mpirun|prterun) (noticed|detected) that |^Primary job +terminated normally, but /;
const PASSED_ON = /^(mpirun|prterun): Forwarding signal \d+ to job$/;
/** Of Open MPI 4 (`[[17,1],2]`) and 5 (`[prterun-host-17@1,2]`). */
const RANK = /process rank (\d+) with PID|Process name: \[.*,(\d+)\]/;

export class MpirunRemarks {
  /** The rank that failed first, where mpirun has said so. */
  failedRank: number | null = null;
  /** Lines of a paragraph from its border on; null outside. */
  private paragraph: string[] | null = null;

  /** @param onLine takes every line that says something else */
  constructor(private readonly onLine: (line: string) => void) {}

  /** Lines in their order, without their ends. */
  readonly take = (line: string): void => {
    const isBorder = BORDER.test(line);
    if (this.paragraph === null) {
      if (isBorder) this.paragraph = [line];
      else if (!PASSED_ON.test(line)) this.onLine(line);
      return;
    }
    this.paragraph.push(line);
    if (isBorder) this.end();
  };

  /** After the last line: a paragraph may be cut off. */
  end(): void {
    const lines = this.paragraph ?? [];
    this.paragraph = null;
    if (!ENDED.test(lines[1] ?? '')) {
      lines.forEach(this.onLine);
      return;
    }
    const [, killed, ended] = RANK.exec(lines.join('\n')) ?? [];
    const rank = killed ?? ended;
    if (rank !== undefined) this.failedRank ??= Number(rank);
  }
}
