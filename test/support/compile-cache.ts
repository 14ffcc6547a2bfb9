/**
 * Environment of the Node programs that tests start. They use the compile cache of the test runner, if it has one: a
 * start of the relay then takes half the CPU time. Benchmarks have none, so they measure the same as before.
 */
export const COMPILE_CACHE = { NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] };
