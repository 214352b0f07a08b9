/** A Vulkan driver for the WebGPU engine: a GPU's, or one that runs on the CPU. */
import { existsSync } from 'node:fs';
import koffi from 'koffi';

/** Debian's chromium brings a Vulkan driver that runs on the CPU, and the loader that finds it, which may be nowhere else. */
const SOFTWARE_DRIVER = '/usr/lib/chromium/vk_swiftshader_icd.json';
const SOFTWARE_LOADER = '/usr/lib/chromium/libvulkan.so.1';
const hasGpu = existsSync('/dev/dri');
/** Whether only a driver that runs on the CPU is there. */
export const isSoftware = !hasGpu && existsSync(SOFTWARE_DRIVER);

/** Why the engine cannot be tested here, or null. */
export const whyNoWebgpu =
  hasGpu || isSoftware ? null : 'no GPU and no software Vulkan driver (Debian: chromium)';

/** Makes the driver known to the engine that is started next, until the function that is returned is called. */
export function useDriver(): () => void {
  if (!isSoftware) return () => undefined;
  process.env.VK_ICD_FILENAMES ??= SOFTWARE_DRIVER;
  // While it is loaded it is what the engine finds by name.
  const loader = existsSync(SOFTWARE_LOADER) ? koffi.load(SOFTWARE_LOADER) : null;
  return () => {
    loader?.unload();
  };
}
