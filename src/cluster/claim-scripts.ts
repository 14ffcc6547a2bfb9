import { createHash } from 'node:crypto';

/** A script that the coordinator runs as one step, and the name that it goes by there. */
export interface Script {
  readonly source: string;
  readonly sha1: string;
}

function script(source: string): Script {
  return { source, sha1: createHash('sha1').update(source).digest('hex') };
}

/**
 * Takes a claim of which it is known who has it. ARGV: our value, the value that it may be taken from, the lease in
 * milliseconds. Returns nil when it is ours now, else what is there.
 */
export const TAKE = script(`
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] and held ~= ARGV[2] then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return nil
`);

/**
 * Extends claims that are ours, and sets those again that are gone. ARGV: our value, the lease in milliseconds.
 * Returns what went wrong, or '', and then pairs of a position in KEYS, from 0, and what is there instead of ours: another's value,
 * or '' where nothing could be set. A coordinator that is full still extends, which takes no
 * memory; that comes last, because a script that has written something may write whatever it likes.
 */
export const RENEW = script(`
local reply, ours = { '' }, {}
for i, key in ipairs(KEYS) do
  local held = redis.call('GET', key)
  if held == ARGV[1] then
    table.insert(ours, key)
  elseif held then
    table.insert(reply, i - 1)
    table.insert(reply, held)
  else
    local answer = redis.pcall('SET', key, ARGV[1], 'PX', ARGV[2])
    if answer.err then
      reply[1] = answer.err
      table.insert(reply, i - 1)
      table.insert(reply, '')
    end
  end
end
for _, key in ipairs(ours) do redis.call('PEXPIRE', key, ARGV[2]) end
return reply
`);

/** Gives up claims, where they are still ours. ARGV: our value. */
export const DROP = script(`
for _, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
return nil
`);

export const SCRIPTS: readonly Script[] = [TAKE, RENEW, DROP];
