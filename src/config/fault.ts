/** A value that can't be used, with what could be. */
export interface Fault {
  readonly variable: string;
  readonly value: string;
  /** What is wrong with it; null where what is accepted says it all. */
  readonly problem: string | null;
  readonly accepted: string;
}

/** The sentence an operator reads. */
export function formatFault(fault: Fault): string {
  const problem = fault.problem === null ? '' : `: ${fault.problem}`;
  return `${fault.variable}=${JSON.stringify(fault.value)} can't be used${problem}. Accepted: ${fault.accepted}.`;
}
