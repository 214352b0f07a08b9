/** The requests that are being answered: how long they may take, and how they end when the server stops. */
import { setMaxListeners } from 'node:events';
import { ApiError } from './api-error.js';

export class InFlight {
  private readonly controllers = new Map<AbortController, NodeJS.Timeout>();
  private stopping = false;
  private onEmpty: () => void = () => undefined;

  /** @param timeoutSeconds that a request may take */
  constructor(private readonly timeoutSeconds: number) {}

  get isStopping(): boolean {
    return this.stopping;
  }

  /**
   * A request begins; whoever answers it calls `leave`.
   * @param closed aborted when the client has gone
   * @returns what is aborted when it takes too long, the client has gone, or the server stops
   * @throws ApiError when the server is stopping
   */
  enter(closed: AbortSignal): AbortController {
    if (this.stopping) throw stopping();
    const controller = new AbortController();
    // Every sequence of a request listens.
    setMaxListeners(0, controller.signal);
    const late = setTimeout(() => {
      controller.abort(
        new ApiError(504, `the request took more than ${this.timeoutSeconds} s`, { code: 'timeout' }),
      );
    }, this.timeoutSeconds * 1000);
    closed.addEventListener('abort', () => {
      controller.abort(new ApiError(503, 'the client has closed the connection'));
    });
    this.controllers.set(controller, late);
    return controller;
  }

  leave(controller: AbortController): void {
    clearTimeout(this.controllers.get(controller));
    this.controllers.delete(controller);
    if (this.controllers.size === 0) this.onEmpty();
  }

  /**
   * Takes no more requests, and ends when those at work have.
   * @param seconds they may take; then they are cancelled
   * @returns how many were cancelled
   */
  async stop(seconds: number): Promise<number> {
    this.stopping = true;
    const empty = new Promise<void>((resolve) => {
      this.onEmpty = resolve;
      if (this.controllers.size === 0) resolve();
    });
    let cancelled = 0;
    const deadline = setTimeout(() => {
      cancelled = this.controllers.size;
      for (const controller of this.controllers.keys()) controller.abort(stopping());
    }, seconds * 1000);
    await empty;
    clearTimeout(deadline);
    return cancelled;
  }
}

const stopping = (): ApiError => new ApiError(503, 'the server is stopping', { code: 'stopping' });
