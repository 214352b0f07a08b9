export const RESULT_FORMATS = ['table', 'csv', 'json', 'md'] as const;

export type ResultFormat = (typeof RESULT_FORMATS)[number];
