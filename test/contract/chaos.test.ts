import { runContract } from './table.ts';

runContract('chaos');
