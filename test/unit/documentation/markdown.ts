/** A link of a Markdown file. */
export interface Link {
  readonly target: string;
  readonly line: number;
}

/** `[text](target "title")`, also of images, and `[name]: target`. Texts may have line breaks. */
const TARGETS = /\]\(\s*<?([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*)>?(?:\s+["'][^"']*["'])?\s*\)/gu;
const DEFINITIONS = /^ {0,3}\[([^\]]+)\]:\s*<?([^\s<>]+)>?/gmu;

/** `[text][name]`. Text alone in brackets is no link here: it is ordinary text unless there is a definition. */
const REFERENCES = /\[[^[\]]+\]\[([^[\]]+)\]/gu;

/** URLs in the text, which GitHub turns into links, and in attributes of HTML elements. */
const URLS = /\bhttps?:\/\/[^\s<>()[\]"'`*]+/gu;
const ATTRIBUTES = /<[a-z][^<>]*\s(?:href|src)\s*=\s*["']([^"']*)["']/giu;

/** Spaces and the same line breaks, so that line numbers stay right. */
function blank(text: string): string {
  return text.replaceAll(/[^\n]/gu, ' ');
}

/** The text without code. */
function withoutCode(markdown: string): string {
  return withoutBlocks(markdown).replaceAll(/(`+)(?!`)(?:(?!\n\n).)*?(?<!`)\1(?!`)/gsu, blank);
}

/** The text without code blocks and comments. */
function withoutBlocks(markdown: string): string {
  return markdown
    .replaceAll(/^( *)(`{3,}|~{3,})[^\n]*\n(?:.*?\n)?? *\2[`~]* *$/gmsu, blank)
    .replaceAll(/<!--.*?-->/gsu, blank);
}

/**
 * All links and images of a Markdown file, in their order. A reference without a definition has the target
 * `[name]`.
 */
export function linksIn(markdown: string): Link[] {
  const text = withoutCode(markdown);
  const definitions = new Set([...text.matchAll(DEFINITIONS)].map(([, name = '']) => name.toLowerCase()));
  const found = new Map<number, string>();
  const add = (match: RegExpMatchArray, target: string): void => {
    found.set((match.index ?? 0) + match[0].indexOf(target), target);
  };
  for (const match of text.matchAll(URLS)) add(match, match[0].replace(/[.,:;!?]+$/u, ''));
  for (const match of text.matchAll(ATTRIBUTES)) add(match, match[1] ?? '');
  for (const match of text.matchAll(DEFINITIONS)) add(match, match[2] ?? '');
  for (const match of text.matchAll(TARGETS)) add(match, match[1] ?? '');
  for (const match of text.matchAll(REFERENCES)) {
    const [, name = ''] = match;
    if (!definitions.has(name.toLowerCase())) add(match, `[${name}]`);
  }
  return [...found]
    .toSorted(([one], [other]) => one - other)
    .map(([index, target]) => ({ target, line: text.slice(0, index).split('\n').length }));
}

/** The anchors of a Markdown file's headings, by GitHub's rules. */
export function anchorsIn(markdown: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading = ''] of withoutBlocks(markdown).matchAll(
    /^ {0,3}#{1,6}[ \t]+(.+?)(?:[ \t]+#+)?[ \t]*$/gmu,
  )) {
    const slug = slugOf(heading);
    let anchor = slug;
    for (let count = 1; anchors.has(anchor); count += 1) anchor = `${slug}-${count}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** Letters, digits, underscores and hyphens stay, and each space becomes a hyphen. */
function slugOf(heading: string): string {
  return heading
    .replaceAll(/!?\[([^\]]*)\]\([^)]*\)/gu, '$1')
    .replaceAll(/(?<![\p{L}\p{N}_])_([^_]+)_(?![\p{L}\p{N}_])/gu, '$1')
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{M}\p{N}\p{Pc}\- ]/gu, '')
    .replaceAll(' ', '-');
}
