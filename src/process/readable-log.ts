/** Columns of the level. */
const LEVEL_WIDTH = 5;

/** Text that needs no quotation marks. Everything else is quoted, which also escapes control characters. */
const PLAIN = /^[\w./:@+%,=\\-]+$/u;

/**
 * Formats a JSON log line for people: time, level, message and the other fields, like
 * `16:05:34 INFO  listening  role=raw endpoint=tcp:4001`. The time is that of the log, in UTC. Text that is not
 * JSON is returned unchanged.
 */
export function formatReadable(line: string): string {
  const entry = parseObject(line);
  if (entry === null) return line;
  // The event is in the message, in words.
  const { level, time, msg, event: _event, reasons, ...fields } = entry;
  const name = String(level).toUpperCase().padEnd(LEVEL_WIDTH);
  const head = `${String(time).slice(11, 19)} ${name} ${String(msg)}`;
  const text = formatFields(fields, '');
  const more = Array.isArray(reasons) ? reasons.map((reason) => `\n  ${String(reason)}`) : [];
  return `${head}${text === '' ? '' : `  ${text}`}${more.join('')}\n`;
}

function parseObject(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? { ...value } : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

/** Formats fields as `name=value`. Fields of objects get the name of the object and a point before theirs. */
function formatFields(fields: object, prefix: string): string {
  return Object.entries(fields)
    .map(([name, value]: [string, unknown]) => {
      if (typeof value === 'object' && value !== null && !Array.isArray(value))
        return formatFields(value, `${prefix}${name}.`);
      return `${prefix}${name}=${formatValue(value)}`;
    })
    .filter((text) => text !== '')
    .join(' ');
}

function formatValue(value: unknown): string {
  if (typeof value === 'string' && PLAIN.test(value)) return value;
  return JSON.stringify(value) ?? '';
}
