import { runContract } from './table.ts';

runContract('oneRelay');
