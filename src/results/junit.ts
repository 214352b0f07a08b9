/** A comparison as JUnit XML, which CI services show: a test case for each row, failed where a figure is worse. */
import XMLBuilder from 'fast-xml-builder';
import type { Comparison, RowComparison } from './compare.js';

/** Characters that XML 1.0 does not allow even when escaped. */
const FORBIDDEN =
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Text for an element. The builder escapes markup. */
const clean = (text: string): string => text.replace(FORBIDDEN, '\ufffd');

/** Text for an attribute, in which line breaks would become spaces. */
const inOneLine = (text: string): string => clean(text.replace(/\s+/g, ' '));

function testCase(className: string, { key, offences }: RowComparison): object {
  const names = { '@classname': inOneLine(className), '@name': inOneLine(key) };
  if (offences.length === 0) return names;
  const message = `${offences.length} figure${offences.length > 1 ? 's are' : ' is'} worse`;
  return {
    ...names,
    failure: { '@message': message, '@type': 'regression', '#text': clean(offences.join('\n')) },
  };
}

const skipped = (className: string, key: string): object => ({
  '@classname': inOneLine(className),
  '@name': inOneLine(key),
  skipped: { '@message': 'the baseline does not have this row' },
});

/** @returns the text of the XML file: one suite, called after the table */
export function junitXml({ schema, baseline, tolerance, rows, unknown }: Comparison): string {
  const className = `yoco.${schema.name}`;
  const counts = {
    '@tests': rows.length + unknown.length,
    '@failures': rows.filter(({ offences }) => offences.length > 0).length,
    '@errors': 0,
    '@skipped': unknown.length,
  };
  const suite = {
    '@name': schema.name,
    ...counts,
    properties: {
      property: [
        { '@name': 'baseline', '@value': inOneLine(baseline.file) },
        { '@name': 'tolerance_percent', '@value': tolerance },
      ],
    },
    testcase: [
      ...rows.map((row) => testCase(className, row)),
      ...unknown.map((key) => skipped(className, key)),
    ],
  };
  const builder = new XMLBuilder({
    attributeNamePrefix: '@',
    ignoreAttributes: false,
    suppressEmptyNode: true,
    suppressBooleanAttributes: false,
    format: true,
  });
  return builder.build({
    '?xml': { '@version': '1.0', '@encoding': 'UTF-8' },
    testsuites: { '@name': 'yoco', ...counts, testsuite: suite },
  });
}
