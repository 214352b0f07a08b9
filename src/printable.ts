/** Names and messages from outside, fit for a terminal and a cell of a table. */

/** Characters with which a text could move the cursor, change colours or turn the direction of writing. */
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** Control characters as escapes (`\u001b`), the text otherwise as it is. */
export const escapeControls = (text: string): string => text.replace(CONTROL, escaped);

/** One line: white space as single spaces, control characters as escapes, the middle left out beyond `limit` characters. */
export function printable(text: string, limit = 2000): string {
  // Far more than is shown need not be looked at.
  const edges = text.length > 8 * limit ? `${text.slice(0, 4 * limit)} ${text.slice(-4 * limit)}` : text;
  const line = escapeControls(edges.replace(/\s+/g, ' ').trim());
  if (line.length <= limit && edges === text) return line;
  const half = Math.floor(Math.min(limit, line.length) / 2);
  return `${line.slice(0, half)} […] ${line.slice(-half)}`;
}
