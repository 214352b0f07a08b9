/** Errors as OpenAI's API words them. */
import { YocoError } from '../errors.js';

export interface ApiErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
  };
}

export type ErrorStatus = 400 | 401 | 404 | 405 | 413 | 429 | 500 | 503 | 504;

const TYPES: Readonly<Record<ErrorStatus, string>> = {
  400: 'invalid_request_error',
  401: 'invalid_request_error',
  404: 'invalid_request_error',
  405: 'invalid_request_error',
  413: 'invalid_request_error',
  429: 'rate_limit_error',
  500: 'server_error',
  503: 'server_error',
  504: 'server_error',
};

/** A request that gets an error for an answer. */
export class ApiError extends YocoError {
  constructor(
    readonly status: ErrorStatus,
    message: string,
    private readonly details: { readonly param?: string; readonly code?: string } = {},
  ) {
    super(message);
  }

  get body(): ApiErrorBody {
    const { param = null, code = null } = this.details;
    return { error: { message: this.message, type: TYPES[this.status], param, code } };
  }
}

/** A request that does not say what can be done. */
export const badRequest = (message: string, param?: string): ApiError =>
  new ApiError(400, message, { param });

/** Any error as an answer; what is no error of the toolkit is a fault of the server, whose details stay in its log. */
export function apiErrorOf(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof YocoError) return new ApiError(500, error.message);
  return new ApiError(500, 'the server failed to answer: its log says why');
}
