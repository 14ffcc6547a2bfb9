// The main file of prom-client also loads its push gateway, its cluster support and the API of OpenTelemetry, which
// take 10 MB of memory. These files take 1 MB.

declare module 'prom-client/lib/registry.js' {
  import { Registry } from 'prom-client';
  // oxlint-disable-next-line import/no-default-export -- what a CommonJS module exports
  export default Registry;
}

declare module 'prom-client/lib/counter.js' {
  import { Counter } from 'prom-client';
  // oxlint-disable-next-line import/no-default-export -- what a CommonJS module exports
  export default Counter;
}

declare module 'prom-client/lib/gauge.js' {
  import { Gauge } from 'prom-client';
  // oxlint-disable-next-line import/no-default-export -- what a CommonJS module exports
  export default Gauge;
}

declare module 'prom-client/lib/histogram.js' {
  import { Histogram } from 'prom-client';
  // oxlint-disable-next-line import/no-default-export -- what a CommonJS module exports
  export default Histogram;
}
