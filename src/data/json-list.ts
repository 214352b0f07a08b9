/** A JSON list as JSON lines, element by element, so that a list may be larger than memory. */

/**
 * The elements of `[{…}, {…}]`, each on a line of its own; a text that is no list comes as it is. Only brackets and quotes are
 * looked at: whoever reads the lines sees whether they are JSON.
 */
export async function* listElements(pieces: AsyncIterable<string>): AsyncGenerator<string> {
  let isList: boolean | undefined;
  const scan = new ElementScan();
  for await (const piece of pieces) {
    const text = isList === undefined ? piece.replace(/^\uFEFF/, '') : piece;
    if (isList === undefined && text.trim() !== '') isList = text.trimStart().startsWith('[');
    if (isList === true) yield scan.lines(text);
    else yield text;
  }
  if (isList === true) yield '\n';
}

class ElementScan {
  private depth = 0;
  private inText = false;
  private isEscaped = false;

  /** What a piece of the list adds to the lines. */
  lines(piece: string): string {
    let line = '';
    let from = 0;
    const cut = (at: number, put: string): void => {
      line += piece.slice(from, at) + put;
      from = at + 1;
    };
    for (let at = 0; at < piece.length; at += 1) {
      const character = piece[at] ?? '';
      if (this.inText) this.passText(character);
      else if (character === '"') this.inText = true;
      else if (character === '\n' || character === '\r') cut(at, ' ');
      else if (character === '[' || character === '{') {
        if (this.depth === 0) cut(at, '');
        this.depth += 1;
      } else if (character === ']' || character === '}') {
        this.depth -= 1;
        if (this.depth === 0) cut(at, '');
      } else if (character === ',' && this.depth === 1) cut(at, '\n');
    }
    return line + piece.slice(from);
  }

  private passText(character: string): void {
    if (this.isEscaped) this.isEscaped = false;
    else if (character === '\\') this.isEscaped = true;
    else if (character === '"') this.inText = false;
  }
}
