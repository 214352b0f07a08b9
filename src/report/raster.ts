/** Charts as PNG, for where SVG is not shown: drawn by resvg with Arimo, whose widths are those of Arial. */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { initWasm, Resvg } from '@resvg/resvg-wasm';

const require = createRequire(import.meta.url);
const FONTS = ['400Regular/Arimo_400Regular.ttf', '700Bold/Arimo_700Bold.ttf'];
/** Pixels per unit of the SVG: sharp on screens of two pixels per point. */
const SCALE = 2;

let fonts: Promise<Uint8Array[]> | undefined;

/** Starts resvg and reads the fonts, once in a process. */
async function prepare(): Promise<Uint8Array[]> {
  await initWasm(readFile(require.resolve('@resvg/resvg-wasm/index_bg.wasm')));
  return Promise.all(FONTS.map((file) => readFile(require.resolve(`@expo-google-fonts/arimo/${file}`))));
}

/** The chart as a PNG of twice its width and height. The same chart gives the same bytes. */
export async function svgToPng(svg: string): Promise<Uint8Array> {
  fonts ??= prepare();
  const renderer = new Resvg(svg, {
    fitTo: { mode: 'zoom', value: SCALE },
    font: { fontBuffers: await fonts, defaultFontFamily: 'Arimo', sansSerifFamily: 'Arimo' },
  });
  const image = renderer.render();
  const png = image.asPng();
  image.free();
  renderer.free();
  return png;
}
