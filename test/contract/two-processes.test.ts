import { describe } from 'node:test';
import { withoutRedis } from '../support/redis.ts';
import { runContract } from './table.ts';

describe('relay processes and a coordinator', { skip: withoutRedis() }, () => runContract('twoProcesses'));
