/**
 * The program cannot start for a reason that the operator can fix. The message is a sentence for the
 * operator.
 */
export class StartupError extends Error {}
