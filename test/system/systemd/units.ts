import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Directory of the systemd units. */
export const UNITS = join(import.meta.dirname, '..', '..', '..', 'deploy', 'systemd');

/** The settings of a unit, in order. */
export function settingsOf(unit: string): readonly (readonly [name: string, value: string])[] {
  return linesOf(unit).flatMap((line) => {
    const [, name, value] = /^([A-Z]\w+)=(.*)$/u.exec(line) ?? [];
    return name === undefined || value === undefined ? [] : [[name, value] as const];
  });
}

/** All values of one setting. */
export function valuesOf(unit: string, setting: string): readonly string[] {
  return settingsOf(unit).flatMap(([name, value]) => (name === setting ? [value] : []));
}

/** Environment of a service. */
export function environmentOf(unit: string): Readonly<Record<string, string>> {
  const assignments = valuesOf(unit, 'Environment').flatMap((value) => value.split(' '));
  return Object.fromEntries(assignments.map((text) => assignment(text)));
}

/** Variables of an environment file if no line were commented out. */
export function examplesOf(file: string): readonly (readonly [variable: string, value: string])[] {
  return paragraphsOf(file).flat();
}

/** The same, by paragraph: the lines of one belong together. */
export function paragraphsOf(
  file: string,
): readonly (readonly (readonly [variable: string, value: string])[])[] {
  const paragraphs = linesOf(file).join('\n').split('\n\n');
  return paragraphs.map(
    (text) => text.match(/^#?[A-Z_]+=.*$/gmu)?.map((line) => assignment(line.replace(/^#/u, ''))) ?? [],
  );
}

function linesOf(file: string): string[] {
  return readFileSync(join(UNITS, file), 'utf8').split('\n');
}

function assignment(text: string): readonly [string, string] {
  const [, variable = '', value = ''] = /^([^=]*)=(.*)$/u.exec(text) ?? [];
  return [variable, value.replace(/^'(.*)'$/u, '$1')];
}
