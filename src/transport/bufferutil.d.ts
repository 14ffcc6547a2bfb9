declare module 'bufferutil' {
  interface BufferUtil {
    readonly mask: (
      source: Uint8Array,
      key: Uint8Array,
      output: Uint8Array,
      offset: number,
      length: number,
    ) => void;
  }
  const bufferUtil: BufferUtil;
  // oxlint-disable-next-line import/no-default-export -- what a CommonJS module exports
  export default bufferUtil;
}

declare module 'bufferutil/fallback.js' {
  import type bufferUtil from 'bufferutil';
  const fallback: typeof bufferUtil;
  // oxlint-disable-next-line import/no-default-export -- what a CommonJS module exports
  export default fallback;
}
