import { pairingSuite } from './pairing-suite.ts';

pairingSuite({ name: 'shared buffer', house: {}, bulkBytes: 50_000_000 });
pairingSuite({ name: 'ordinary streams', house: { ordinaryStreams: true }, bulkBytes: 10_000_000 });
