/**
 * Removes everything that an input does not need to keep a property, the largest pieces first.
 *
 * @param tries maximum calls of `keeps`
 */
export function shrink(input: Buffer, keeps: (smaller: Buffer) => boolean, tries: number): Buffer {
  let smallest = input;
  let triesLeft = tries;
  for (let size = Math.ceil(input.length / 2); size > 0; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < smallest.length && triesLeft > 0; triesLeft -= 1) {
      const smaller = Buffer.concat([smallest.subarray(0, at), smallest.subarray(at + size)]);
      if (keeps(smaller)) smallest = smaller;
      else at += size;
    }
  }
  return smallest;
}
