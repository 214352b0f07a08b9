/**
 * ONNX Runtime's binaries for Linux and macOS send events to their vendor, and keep a database and a device identifier
 * in `~/.cache`. The library looks for the switch in the environment of the C library when its own environment is made.
 * See https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md.
 */
import type koffiModule from 'koffi';

type Koffi = typeof koffiModule;

const SWITCH = 'ORT_DISABLE_TELEMETRY';

/** `YOCO_ORT_TELEMETRY=1` leaves ONNX Runtime as its vendor ships it. With any other value, and without one, it is off. */
export const telemetryAllowed = (environment: NodeJS.ProcessEnv): boolean =>
  environment.YOCO_ORT_TELEMETRY === '1';

/**
 * Switches telemetry off for this process and its children, whatever the environment said. To be called before the
 * library is loaded.
 */
export function disableTelemetry(koffi: Koffi): void {
  // In a worker thread, `process.env` is a copy that libraries do not see; elsewhere it keeps both in step.
  process.env[SWITCH] = '1';
  // On Windows the library uses the system's own tracing, which `DisableTelemetryEvents` switches off.
  if (process.platform === 'win32') return;
  const setenv = koffi.load(null).func('int setenv(const char *name, const char *value, int overwrite)');
  if (setenv(SWITCH, '1', 1) !== 0) throw new Error(`${SWITCH} cannot be set, so ONNX Runtime is not loaded`);
}
