/**
 * Environment of the Node programs that tests and benchmarks start. They use the compile cache of the runner, if it
 * has one, as programs in the image do: a start of the relay then takes half the CPU time, and less memory.
 */
export const COMPILE_CACHE = { NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] };
