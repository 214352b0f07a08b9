/** tfjs' WebGPU backend with synchronous reads: its own need a canvas, which Node does not have. */
import { WebGPUBackend } from '@tensorflow/tfjs-backend-webgpu';
import type { backend_util } from '@tensorflow/tfjs-core';
import * as tf from '../../tf.js';
import { waitForDawn } from './dawn-events.js';

export class NodeWebgpuBackend extends WebGPUBackend {
  override readSync(dataId: object): backend_util.BackendValues {
    const data = this.tensorMap.get(dataId);
    const { resource, dtype } = data;
    // Values that are on the CPU already, and complex tensors, whose parts come back here.
    if ((data.values as unknown) || !(resource instanceof GPUBuffer)) return super.readSync(dataId);
    data.values = tf.util.convertBackendValuesAndArrayBuffer(this.download(resource), dtype);
    return data.values;
  }

  private download(source: GPUBuffer): ArrayBuffer {
    this.submit();
    const usage = GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ;
    const staging = this.bufferManager.acquireBuffer(source.size, usage);
    const encoder = this.device.createCommandEncoder();
    encoder.copyBufferToBuffer(source, 0, staging, 0, source.size);
    this.queue.submit([encoder.finish()]);
    let failure: unknown;
    staging.mapAsync(GPUMapMode.READ).catch((error: unknown) => {
      failure = error;
    });
    waitForDawn(() => staging.mapState !== 'pending');
    if (staging.mapState !== 'mapped') throw new Error('The GPU device was lost', { cause: failure });
    const bytes = staging.getMappedRange().slice(0);
    staging.unmap();
    this.bufferManager.releaseBuffer(staging);
    return bytes;
  }

  /** Resolves when the GPU has finished all work handed to it. */
  async finished(): Promise<void> {
    this.submit();
    await this.queue.onSubmittedWorkDone();
  }

  private submit(): void {
    this.ensureCommandEncoderReady();
    this.endComputePassEncoder();
    this.submitQueue();
  }
}
