import { runContract } from './table.ts';

runContract('twoRelays');
