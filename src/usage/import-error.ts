/** Why nothing is imported, in a sentence for the operator. */
export class ImportError extends Error {}
